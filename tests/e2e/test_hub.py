"""Checkpoints by their names on the Hub, which a server on this machine plays."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dspark_engines import open_bundle
from tests.support import tiny
from tests.support.fake_hub import COMMIT, fake_hub

SIZES = ("--context-length=96", "--slots=1", "--no-measure")


@pytest.fixture(scope="module")
def hub(tiny_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("hub")
    for name, folder in zip(("target", "drafter"), tiny_pair, strict=True):
        shutil.copytree(folder, root / "acme" / name)
    for name in ("target", "else"):
        folder = Path(shutil.copytree(tiny_pair[1], root / "acme" / f"for-{name}"))
        tiny.edit_config(folder, target_model_name_or_path=f"acme/{name}")
    (root / "acme" / "target" / "pytorch_model.bin").write_bytes(b"not wanted")
    with fake_hub(root) as endpoint:
        yield endpoint


def run(home: Path, endpoint: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own: the library reads its environment when it is imported."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
    variables = kept | {"HF_HOME": str(home / "cache"), "HF_ENDPOINT": endpoint} | environment
    command = [sys.executable, "-c", "import sys; from dspark_export.program import run; sys.exit(run())", *arguments]
    return subprocess.run(command, cwd=home, env=variables, capture_output=True, text=True, check=False)


def build(home: Path, endpoint: str, target: str, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(home, endpoint, "build", "--target", target, *more, "--output", "out", *SIZES, **environment)


def test_a_pair_by_name_then_from_the_cache(hub: str, tmp_path: Path) -> None:
    done = build(tmp_path, hub, "acme/target", "--drafter", "acme/drafter@main")
    assert done.returncode == 0, done.stderr
    manifest = open_bundle(tmp_path / "out").manifest
    assert (manifest.target.name, manifest.target.hub) == ("target", f"acme/target@{COMMIT}")
    assert (manifest.drafter.name, manifest.drafter.hub) == ("drafter", f"acme/drafter@{COMMIT}")
    assert not list((tmp_path / "cache").rglob("*.bin"))
    shutil.rmtree(tmp_path / "out")
    again = build(tmp_path, "http://127.0.0.1:9", "acme/target", "--drafter", "acme/drafter", HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stderr
    assert open_bundle(tmp_path / "out").manifest.target.hub == f"acme/target@{COMMIT}"


def test_a_drafter_for_another_target_is_built_with_a_warning(hub: str, tmp_path: Path) -> None:
    """Names differ for good reasons too: a fine-tune has another than what its drafter was trained for."""
    warned = [
        "warning: acme/for-else: trained for acme/else, and the target is called acme/target: unless these are the "
        "same model, few drafts will be accepted"
    ]
    for name, expected in (("else", warned), ("target", [])):
        options = ("--drafter", f"acme/for-{name}", "--output", name, *SIZES[:2])
        done = run(tmp_path, hub, "export", "--target", "acme/target", *options)
        assert done.returncode == 0, done.stderr
        assert [line for line in done.stderr.splitlines() if line.startswith("warning")] == expected
        assert open_bundle(tmp_path / name).manifest.drafter.trained_for == f"acme/{name}"
        assert f"trained for acme/{name}" in run(tmp_path, hub, "inspect", name).stdout


REFUSED = {
    "no such repository": (
        "acme/nothing",
        "acme/nothing: no such file or directory, and the Hub has no such repository",
    ),
    "no such revision": ("acme/target@v2", "the Hub's acme/target has no revision 'v2'"),
    "gated": ("acme/gated", "the Hub gives it only to those who accepted its terms"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line(case: str, hub: str, tmp_path: Path) -> None:
    name, said = REFUSED[case]
    done = build(tmp_path, hub, name)
    assert done.returncode == 2, done.stderr
    error, hint = done.stderr.strip().splitlines()[-2:]
    assert error.startswith("error: "), done.stderr
    assert said in error
    assert hint.startswith("hint: ")
    assert not (tmp_path / "out").exists()


def test_offline_and_not_in_the_cache(tmp_path: Path) -> None:
    done = build(tmp_path, "http://127.0.0.1:9", "acme/target", HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert "the Hub's cache on this machine does not hold it" in done.stderr
