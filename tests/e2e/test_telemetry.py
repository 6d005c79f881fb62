"""A runtime in production talks to nobody: ONNX Runtime's telemetry is off before the library is loaded."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

from dspark_engines.backends.onnxruntime import loader

ROOT = Path(__file__).resolve().parents[2]
SWITCH = "ORT_DISABLE_TELEMETRY"
SERVE_AND_WAIT = """
import sys, time
from pathlib import Path
from dspark_engines import GenerationRequest, Runtime, open_bundle
with Runtime(open_bundle(Path(sys.argv[1]))) as runtime:
    print(len(runtime.generate([GenerationRequest([1, 2, 3], 8)])[0].token_ids))
    time.sleep(4)  # the library sends from a thread of its own
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def environment(home: Path) -> dict[str, str]:
    """This process's, with nothing set that decides about telemetry, and an empty home."""
    decides = {SWITCH, "XDG_CACHE_HOME", "CI"}  # the library is quiet by itself on CI machines
    return {name: value for name, value in os.environ.items() if name not in decides} | {"HOME": str(home)}


def test_telemetry_leaves_nothing_in_the_home(tiny_bundle: Path, home: Path) -> None:
    command = [sys.executable, str(ROOT / "cli.py"), "generate", str(tiny_bundle), "--prompt", "hi", "--raw"]
    subprocess.run(command, env=environment(home), capture_output=True, check=True)
    assert list(home.rglob("*")) == []


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: apt-get install strace")
def test_telemetry_connects_to_no_address(tiny_bundle: Path, home: Path, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    trace = ["strace", "-f", "--seccomp-bpf", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(calls)]
    command = [*trace, sys.executable, "-c", SERVE_AND_WAIT, str(tiny_bundle)]
    done = subprocess.run(command, env=environment(home), capture_output=True, text=True, check=False)
    if "ptrace" in done.stderr:
        pytest.skip("this machine lets nobody trace processes")
    assert done.stdout == "8\n", done.stderr
    assert [line for line in calls.read_text().splitlines() if "AF_INET" in line] == []
    assert "exited with 0" in calls.read_text()  # it was traced


@pytest.mark.parametrize(("given", "expected"), [(None, "1"), ("0", "0"), ("1", "1")])
def test_the_telemetry_switch_is_set_before_the_library_is_loaded(
    monkeypatch: pytest.MonkeyPatch, given: str | None, expected: str
) -> None:
    seen = []

    def load(name: str, *arguments: object, **options: object) -> types.ModuleType:
        if name == "onnxruntime":
            seen.append(os.environ.get(SWITCH))
        return importlib.__import__(name, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.delenv(SWITCH, raising=False)
    if given is not None:
        monkeypatch.setenv(SWITCH, given)
    monkeypatch.setattr("builtins.__import__", load)
    importlib.reload(loader)
    assert seen == [expected]
