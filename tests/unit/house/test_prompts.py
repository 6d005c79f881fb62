"""JSON Lines as they are found in the wild: a line ends at a line feed and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

from dspark_engines.text_file import read_lines
from dspark_export.prompts import read_prompt_set

SEPARATORS = "a\u2028b\u2029c\x85d"
"""Characters that JSON may hold as they are, and that `str.splitlines` ends a line at."""


def test_separators_inside_a_string_end_no_line(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    lines = [json.dumps({"prompt": text}, ensure_ascii=False) for text in (SEPARATORS, "second")]
    path.write_text("\r\n".join(lines) + "\r\n\n", "utf-8", newline="")
    prompts = read_prompt_set(path)
    assert [prompt.text for prompt in prompts] == [SEPARATORS, "second"]
    assert [prompt.place for prompt in prompts] == [f"{path}:1", f"{path}:2"]
    assert [(number, json.loads(line)["prompt"]) for number, line in read_lines(path)] == [
        (1, SEPARATORS),
        (2, "second"),
    ]
