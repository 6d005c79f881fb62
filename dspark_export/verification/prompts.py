"""Prompt sets: one JSON object a line, with `prompt` and optionally `id` and `source`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from dspark_engines.errors import DsparkError

HINT = 'one JSON object a line, with the key "prompt"'
BUILT_IN = (
    "What is the capital of France?",
    "Write a Python function that returns the n-th Fibonacci number.",
    "A train travels 60 miles in 1.5 hours. What is its average speed?",
    "Explain in two sentences why the sky is blue.",
)


class Prompt(NamedTuple):
    """One line of a prompt set; without an id the line's number, without a source "prompts"."""

    id: str
    source: str
    text: str


def read_prompts(path: Path, limit: int | None = None) -> list[str]:
    """The texts in `path`, the first `limit` of them. Raises `DsparkError` naming the bad line."""
    return [prompt.text for prompt in read_prompt_set(path, limit)]


def read_prompt_set(path: Path, limit: int | None = None) -> list[Prompt]:
    """The prompts in `path`, the first `limit` of them. Raises `DsparkError` naming the bad line."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DsparkError(f"{path}: not readable: {error}", hint="pass a JSON Lines file") from None
    prompts = [_prompt(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not prompts:
        raise DsparkError(f"{path}: holds no prompt", hint=HINT)
    return prompts[:limit]


def _prompt(path: Path, number: int, line: str) -> Prompt:
    try:
        fields = json.loads(line)
        text = fields["prompt"]
    except (ValueError, KeyError, TypeError):
        fields, text = {}, None
    if not isinstance(text, str) or not text.strip():
        raise DsparkError(f"{path}:{number}: no prompt in this line", hint=HINT)
    return Prompt(str(fields.get("id", number)), str(fields.get("source", "prompts")), text)
