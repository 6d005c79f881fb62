"""Builds that are stopped, by real signals to the real program: nothing is left, or it is gone after the next build."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from dspark_engines.bundle import MANIFEST, open_bundle
from dspark_engines.bundle.interruptions import interruptions_held
from dspark_export.commands.signals import heed_interruptions
from tests.support.command_line import Place, run

SLOW_BUILD = """
import shutil, sys, time
from dspark_engines.bundle import neighbours
from dspark_export.bundling import export
from dspark_export.commands.main import main

original = export.export_text
def slow(*arguments):  # inside the temporary directory, graphs written, nothing else
    original(*arguments)
    print("busy", flush=True)
    time.sleep(60)
export.export_text = slow

remove = shutil.rmtree
def slow_removal(*arguments, **options):
    print("cleaning up", flush=True)
    time.sleep(1)
    remove(*arguments, **options)
neighbours.shutil.rmtree = slow_removal
sys.exit(main(sys.argv[1:]))
"""


SLOW_GENERATION = """
import sys, threading, time
from dspark_engines.runtime.round.runner import RoundRunner
from dspark_export.program import run

advance = RoundRunner.advance
def slow(*arguments):  # in the runtime's thread
    print("busy", file=sys.stderr, flush=True)
    time.sleep(0.5)
    return advance(*arguments)
RoundRunner.advance = slow
code = run()
assert not [t.name for t in threading.enumerate() if t.name.startswith("dspark")], "aborted at the end"
sys.exit(code)
"""


def heed_interrupts() -> None:
    """A shell starts background jobs with SIGINT ignored, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def half_built(place: Place, arguments: list[str]) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """The program in a process of its own, at a moment when the bundle is half-written; and its output."""
    script = place.root.parent / f"{place.root.name}.py"
    script.write_text(SLOW_BUILD)
    command = [sys.executable, str(script), *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    ) as process:
        try:
            assert process.stdout is not None
            while (line := process.stdout.readline()) == "cleaning up\n":  # of leftovers
                pass
            assert line == "busy\n"
            yield process, process.stdout
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_batch_keeps_its_results(place: Place, number: signal.Signals) -> None:
    """However often: the runtime's thread ends before the interpreter does."""
    requests, script = place.root / "r.jsonl", place.root / "slow.py"
    requests.write_text('{"prompt": "a", "max_new_tokens": 1}\n' + '{"prompt": "b", "max_new_tokens": 60}\n' * 9)
    script.write_text(SLOW_GENERATION)
    command = [sys.executable, str(script), "generate", str(place.tiny_bundle), f"--batch-file={requests}"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["stop"] == "length"
        assert process.stderr.readline() == "busy\n"
        for again in (number, signal.SIGTERM, number):
            process.send_signal(again)
            time.sleep(0.05)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (2, ""), err
    lines = [line for line in err.splitlines() if line not in ("", "busy")]
    assert [line.partition(":")[0] for line in lines] == ["error", "hint"]


def test_a_signal_that_the_parent_has_switched_off_stays_so(place: Place) -> None:
    """`nohup`, and the background jobs of a shell."""
    place.patch.setattr(signal, "getsignal", lambda number: signal.SIG_IGN)
    place.patch.setattr(signal, "signal", lambda number, handler: pytest.fail(f"{number} was taken over"))
    heed_interruptions()
    with interruptions_held():
        pass


def partials(output: Path) -> list[Path]:
    return list(output.parent.glob(f".{output.name}.*.partial"))


def assert_interrupted(process: subprocess.Popen[str]) -> None:
    _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    error, hint = [line for line in err.splitlines() if line]  # click ends the terminal's line with ^C on it
    assert error == "error: interrupted"
    assert hint.startswith("hint: ")


@pytest.mark.parametrize(
    ("number", "exists"), [(signal.SIGINT, False), (signal.SIGTERM, True)], ids=["SIGINT-new", "SIGTERM-replacing"]
)
@pytest.mark.parametrize("again", [(), (signal.SIGINT, signal.SIGTERM, signal.SIGINT)], ids=["once", "impatiently"])
def test_interrupted_build(
    place: Place, number: signal.Signals, exists: bool, again: tuple[signal.Signals, ...]
) -> None:
    """However often: what comes during the clean-up waits for it."""
    output = place.bundle if exists else place.root / "deep" / "out"
    arguments = place.build(output=output, overwrite=True if exists else None)
    before = place.files()
    with half_built(place, arguments) as (process, out):
        assert len(partials(output)) == 1
        process.send_signal(number)
        assert out.readline() == "cleaning up\n"
        for impatient in again:
            process.send_signal(impatient)
        assert_interrupted(process)
    assert place.files() == before


def test_what_a_killed_build_leaves_goes_with_the_next(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Only that: a build into the same place that is still at work keeps its directory."""
    output = place.root / "out"
    with half_built(place, place.build()) as (process, _):
        process.kill()
        process.wait(timeout=30)
    (left,) = partials(output)
    with half_built(place, place.build(overwrite=True)) as (process, _):
        (working,) = partials(output)
        assert working != left
        assert run(capsys, *place.build()).code == 0
        assert partials(output) == [working]
        process.send_signal(signal.SIGINT)
        assert_interrupted(process)
    assert partials(output) == []
    assert (output / MANIFEST).is_file()


def test_what_a_killed_compilation_leaves_goes_with_the_next(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    left = place.bundle / "engines" / ".onnxruntime.abcd_123.partial"
    left.mkdir()
    (left / "verify.1.onnx").write_text("half")
    other = left.with_name(".onnxruntime.v2.abcd_123.partial")  # of another output
    other.mkdir()
    assert run(capsys, "compile", place.bundle, "--overwrite").code == 0
    assert not left.exists()
    assert other.exists()
    open_bundle(place.bundle)
