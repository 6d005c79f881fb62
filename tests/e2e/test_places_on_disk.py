"""Disks as machines have them: mount points, read-only and full ones, users without a home."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dspark_engines.bundle import MANIFEST, open_bundle
from tests.support import calibrated
from tests.support.command_line import Place, run

Capture = pytest.CaptureFixture[str]
FULL, READ_ONLY = "the disk is full", "cannot be written: Read-only file system"


@contextmanager
def mounted(folder: Path, *arguments: str) -> Iterator[Path]:
    """A file system of its own at `folder`; needs a root that may mount."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root may mount")
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *arguments, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this root may not mount: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def small(folder: Path, size: str = "32m") -> object:
    return mounted(folder, "-t", "tmpfs", "-o", f"size={size}", "tmpfs")


@pytest.mark.parametrize("bind", [False, True], ids=["a disk", "a folder of the same disk"])
def test_a_mount_point_is_an_output(place: Place, capsys: Capture, bind: bool) -> None:
    output = place.root / "out"
    output.mkdir()
    other = place.root / "other"
    other.mkdir()
    with mounted(output, "--bind", str(other)) if bind else small(output):
        assert run(capsys, *place.build()).code == 0
        open_bundle(output)
        assert "already exists" in run(capsys, *place.build()).err
        assert run(capsys, *place.build(overwrite=True)).code == 0
        open_bundle(output)
        assert sorted(path.name for path in output.iterdir()) == [
            "calibration",
            "engines",
            MANIFEST,
            "onnx",
            "tokenizer",
        ]


def test_a_mount_point_that_is_too_small_stays_empty(place: Place, capsys: Capture) -> None:
    with small(place.root / "out", "700k") as output:
        outcome = run(capsys, *place.build())
        assert (outcome.code, list(output.iterdir())) == (2, [])


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    with mounted(folder, "--bind", str(folder)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)
        yield


def full(folder: Path) -> None:
    """Take what room there is."""
    with (folder / "filling").open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(1 << 16))
            except OSError:
                return


WRITERS = {
    "profile": "profile {bundle}",
    "calibrate": "calibrate {bundle} --prompts={prompts}",
    "calibrate, traces elsewhere": "calibrate {bundle} --prompts={prompts} --traces={root}/traces",
    "compile": "compile {bundle} --overwrite",
    "comparison": "report {bundle} {bundle} --output={bundle}/page.html",
    "timeline": "generate {bundle} --prompt=a --trace={bundle}/trace.json",
}


@pytest.mark.parametrize("disk", [FULL, READ_ONLY])
def test_nothing_is_measured_for_a_place_that_cannot_be_written(place: Place, capsys: Capture, disk: str) -> None:
    """The engines are not even opened."""

    def opened(*arguments: object) -> None:
        raise AssertionError("heavy work began")

    place.patch.setattr("dspark_engines.backends.onnxruntime.backend.OnnxRuntimeBackend.open", opened)
    prompts = calibrated.write_prompts(place.root / "prompts.jsonl")
    with small(place.root / "disk") as folder:
        bundle = Path(shutil.copytree(place.tiny_bundle, folder / "bundle"))
        if disk is FULL:
            full(folder)
        with read_only(bundle) if disk is READ_ONLY else small(place.root / "unused"):
            before = sorted(bundle.rglob("*"))
            for name, command in WRITERS.items():
                line = command.format(bundle=bundle, prompts=prompts, root=place.root)
                outcome = run(capsys, *line.split())
                assert (name, outcome.code, outcome.out) == (name, 2, "")
                error, hint = outcome.err.splitlines()
                assert disk in error, name
                assert hint.startswith("hint: ")
            assert sorted(bundle.rglob("*")) == before
            assert run(capsys, "inspect", bundle).code == 0
