"""Prompt sets: one JSON object a line, with `prompt` and optionally `id` and `source`."""

from __future__ import annotations

import json
from pathlib import Path

from dspark_engines.errors import DsparkError

BUILT_IN = (
    "What is the capital of France?",
    "Write a Python function that returns the n-th Fibonacci number.",
    "A train travels 60 miles in 1.5 hours. What is its average speed?",
    "Explain in two sentences why the sky is blue.",
)


def read_prompts(path: Path, limit: int | None = None) -> list[str]:
    """The prompts in `path`, the first `limit` of them. Raises `DsparkError` naming the bad line."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DsparkError(f"{path}: not readable: {error}", hint="pass a JSON Lines file") from None
    prompts = [_prompt(path, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not prompts:
        raise DsparkError(f"{path}: holds no prompt", hint='one JSON object a line, with the key "prompt"')
    return prompts[:limit]


def _prompt(path: Path, number: int, line: str) -> str:
    try:
        prompt = json.loads(line)["prompt"]
    except (ValueError, KeyError, TypeError):
        prompt = None
    if not isinstance(prompt, str) or not prompt.strip():
        raise DsparkError(
            f"{path}:{number}: no prompt in this line", hint='one JSON object a line, with the key "prompt"'
        )
    return prompt
