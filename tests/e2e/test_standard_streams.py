"""Standard streams as a shell connects them: other encodings, readers that leave, full disks, closed descriptors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.standard_streams import ROOT, environment, shell

REQUEST = '{"prompt": "hi", "id": "é🙂"}\n'
PRINT = "from dspark_export.commands import console, streams; streams.open_streams(); console.print_text({})"
ERROR = "error: standard output cannot be written: "


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty requests."""
    path = tmp_path_factory.mktemp("batch") / "requests.jsonl"
    path.write_text(REQUEST * 20, "utf-8")
    return path


ENCODINGS = {
    "asked for ASCII": ({"PYTHONIOENCODING": "ascii"}, r"\u00e9\ud83d\ude42"),
    "the C locale": ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, "é🙂"),
}


@pytest.mark.parametrize("case", ENCODINGS)
def test_json_parses_in_every_encoding(tiny_bundle: Path, batch: Path, case: str) -> None:
    variables, written = ENCODINGS[case]
    outcome = shell("generate $BUNDLE --batch-file $BATCH --max-new-tokens 2", tiny_bundle, batch, **variables)
    assert (outcome.code, len(outcome.out.splitlines())) == (0, 20)
    assert all(json.loads(line)["id"] == "é🙂" for line in outcome.out.splitlines())
    assert f'"id": "{written}"' in outcome.out


@pytest.mark.parametrize(
    ("variables", "written"),
    [
        ({"PYTHONIOENCODING": "ascii"}, b"caf? ?\n"),
        ({"PYTHONIOENCODING": "latin-1"}, b"caf\xe9 ?\n"),
        ({"PYTHONIOENCODING": "ascii:backslashreplace"}, rb"caf\xe9 \U0001f642" + b"\n"),
        ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, "café 🙂\n".encode()),
    ],
    ids=["ASCII", "Latin-1", "ASCII, escaped", "the C locale"],
)
def test_text_is_never_lost_for_a_character(variables: dict[str, str], written: bytes) -> None:
    command = [sys.executable, "-c", PRINT.format(ascii("café 🙂"))]
    done = subprocess.run(command, env=environment(**variables), cwd=ROOT, capture_output=True, check=True)
    assert done.stdout == written


STREAMS = {
    "a reader that leaves": ("generate $BUNDLE --batch-file $BATCH --max-new-tokens 60 | head -n 1", 141, ""),
    "nobody reads the help": ("generate --help | sleep 0", 141, ""),
    "a full disk for results": (
        "generate $BUNDLE --batch-file $BATCH >/dev/full",
        2,
        ERROR + "No space left on device",
    ),
    "a full disk for the version": ("--version >/dev/full", 2, ERROR + "No space left on device"),
    "output is closed": ("generate $BUNDLE --prompt=hi >&-", 2, ERROR + "Bad file descriptor"),
    "input is closed": ("generate $BUNDLE <&-", 2, "error: no prompt"),
}


@pytest.mark.parametrize("case", STREAMS)
def test_a_stream_that_fails_ends_the_run_in_one_line(tiny_bundle: Path, batch: Path, case: str) -> None:
    command, code, error = STREAMS[case]
    if "/dev/full" in command and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    outcome = shell(command, tiny_bundle, batch)
    assert outcome.code == code
    said = [line for line in outcome.err.splitlines() if line.startswith(("error", "hint"))]
    assert said[:1] == ([error] if error else [])
    assert len(said) == (2 if error else 0)
    assert "Traceback" not in outcome.err
    assert "Exception" not in outcome.err
    assert "terminate" not in outcome.err


@pytest.mark.parametrize("ending", ["2>&-", "2>/dev/full"], ids=["closed", "full"])
def test_standard_error_never_stops_a_run(tiny_bundle: Path, batch: Path, ending: str) -> None:
    outcome = shell(f"generate $BUNDLE --batch-file $BATCH --max-new-tokens 2 {ending}", tiny_bundle, batch)
    assert (outcome.code, len(outcome.out.splitlines())) == (0, 20)


def test_results_go_to_their_file_while_bars_are_shown(tiny_bundle: Path, batch: Path, tmp_path: Path) -> None:
    """Bars are on the terminal that standard error is; results are for the file that standard output is."""
    pty = pytest.importorskip("pty")
    terminal, end = pty.openpty()
    command = [sys.executable, "cli.py", "generate", tiny_bundle, "--batch-file", batch, "--max-new-tokens=2"]
    with (tmp_path / "out").open("wb") as out:
        done = subprocess.run(command, stdout=out, stderr=end, cwd=ROOT, env=environment(), check=False)
    os.close(end)
    shown = os.read(terminal, 4096)
    os.close(terminal)
    assert (done.returncode, len((tmp_path / "out").read_text().splitlines())) == (0, 20)
    assert b"generating" in shown
    assert b"token_ids" not in shown


def test_a_stream_that_does_not_block_is_waited_for(tmp_path: Path) -> None:
    """As parents that read asynchronously leave it: a megabyte does not fit into a pipe."""
    script = "import os; os.set_blocking(1, False); " + PRINT.format('1_000_000 * "x"')
    done = subprocess.run(
        f"{sys.executable} -c '{script}' | (sleep 0.3; wc -c)",
        shell=True,
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout.strip(), done.stderr) == ("1000001", "")


def test_a_warning_is_one_line(tiny_bundle: Path, batch: Path, tmp_path: Path) -> None:
    """What is known about code is for whoever debugs it."""
    table = shutil.copytree(tiny_bundle, tmp_path / "bundle") / "calibration" / "cost_table.json"
    table.parent.mkdir()
    table.write_text("{}")
    outcome = shell("generate $BUNDLE --raw --prompt hi --scheduler threshold", table.parents[1], batch)
    assert outcome.code == 0
    (line,) = (line for line in outcome.err.splitlines() if "cost_table.json" in line)
    assert line.startswith("warning: ")
    assert ".py" not in outcome.err
