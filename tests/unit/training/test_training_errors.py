"""What a user can get wrong with the example's training: a line, a hint, exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import training_data  # noqa: F401  (finds the example)
from train import run

CASES = {
    "a GGUF that is not there": ["target", "--gguf", "none.gguf", "--output", "out"],
    "a target that is none": ["measure", "--target", ".", "--drafter", ".", "--prompts", "none.jsonl"],
    "no answers": ["train", "--method", "mtp", "--target", ".", "--data", ".", "--out", "out"],
    "an unknown method": ["train", "--method", "medusa", "--target", ".", "--data", ".", "--out", "out"],
    "an option that is missing": ["generate", "--target", "."],
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_one_line_and_a_hint(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(CASES[case]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["error", "hint"]
    assert list(tmp_path.iterdir()) == []
