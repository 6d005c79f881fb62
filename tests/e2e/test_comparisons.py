"""`benchmarks/default.py` and the demo's `compare.py`: both ways are run, and what they say is what was measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import Outcome

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "benchmarks"), str(ROOT / "examples" / "smollm2")]  # as for scripts that stand there

import compare  # noqa: E402

import default  # noqa: E402


def call(capsys: pytest.CaptureFixture[str], run: Any, *arguments: object) -> Outcome:
    capsys.readouterr()
    code = run([str(argument) for argument in arguments])
    return Outcome(code, *capsys.readouterr())


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    lines = [{"prompt": f"w{n} w{n + 1}", "source": "ab"[n % 2]} for n in range(6)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_default_beside_plain(
    tiny_bundle: Path, prompts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (tiny_bundle, f"--prompts={prompts}", "--per-source=2", "--max-new-tokens=6")
    done = call(capsys, default.run, *given, "--json")
    assert done.code == 0, done.err
    (found,) = done.json["bundles"]
    assert found["sources"] == ["a", "a", "b", "b"]
    assert (len(found["ratios"]), len(found["control"]), found["identical"]) == (4, 4, 4)
    assert found["reason"].startswith("plain decoding: ")  # nobody has measured it
    pytest.importorskip("matplotlib", reason="the extra [bench] is not installed")
    done = call(capsys, default.run, *given, f"--figure={tmp_path / 'gain.png'}")
    assert done.code == 0, done.err
    assert (tmp_path / "gain.png").read_bytes().startswith(b"\x89PNG")
    assert call(capsys, default.run, *given, f"--figure={tmp_path / 'no' / 'gain.png'}").code == 2


def test_the_demo_compares_both_ways(scripted_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = call(capsys, compare.run, scripted_bundle, "--max-new-tokens=6", "--turns=1")
    assert done.code == 0, done.err
    assert all(kind in done.out for kind in compare.PROMPTS)
    assert "outputs identical: 3 of 3" in done.out
    missing = call(capsys, compare.run, scripted_bundle / "nowhere")
    assert (missing.code, missing.err.count("\n")) == (2, 2)
