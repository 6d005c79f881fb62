"""Prompt sets: one JSON object a line, with `prompt` and optionally `id` and `source`; and their token ids."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dspark_engines import Bundle, GenerationRequest
from dspark_engines.errors import DsparkError, RequestError
from dspark_engines.runtime import check_request
from dspark_engines.text import TextCodec

HINT = 'one JSON object a line, with the key "prompt"'
BUILT_IN = (
    "What is the capital of France?",
    "Write a Python function that returns the n-th Fibonacci number.",
    "A train travels 60 miles in 1.5 hours. What is its average speed?",
    "Explain in two sentences why the sky is blue.",
)


class Prompt(NamedTuple):
    """One line of a prompt set; without an id the line's number, without a source "prompts".

    `place` is where it stands, FILE:LINE, for error messages.
    """

    id: str
    source: str
    text: str
    place: str


def built_in_prompts(limit: int | None = None) -> list[Prompt]:
    """The first `limit` of `BUILT_IN`, for who has no prompt set."""
    texts = enumerate(BUILT_IN[:limit], 1)
    return [Prompt(str(number), "built-in", text, f"built-in prompt {number}") for number, text in texts]


def encode_prompts(bundle: Bundle, prompts: Sequence[Prompt], *, cut: bool = False) -> list[list[int]]:
    """Token ids of every prompt, through the chat template.

    Raises `RequestError` naming the first that `bundle` cannot serve. With `cut` longer ones than its context are left
    in, for callers that take as much as fits.
    """
    codec = TextCodec(bundle)
    return [_encode(bundle, codec, prompt, cut) for prompt in prompts]


def _encode(bundle: Bundle, codec: TextCodec, prompt: Prompt, cut: bool) -> list[int]:
    try:
        ids = codec.prompt_ids(prompt.text)
        if not cut:
            check_request(GenerationRequest(ids, 1), bundle.manifest)
    except RequestError as error:
        raise RequestError(f"{prompt.place}: {error}", hint=error.hint) from None
    return ids


def read_prompts(path: Path, limit: int | None = None) -> list[str]:
    """The texts in `path`, the first `limit` of them. Raises `DsparkError` naming the bad line."""
    return [prompt.text for prompt in read_prompt_set(path, limit)]


def read_prompt_set(path: Path, limit: int | None = None) -> list[Prompt]:
    """The prompts in `path`, the first `limit` of them. Raises `DsparkError` naming the bad line."""
    try:
        lines = path.read_text("utf-8").split("\n")  # JSON may hold what else Python ends a line at, U+2028 say
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
    return Prompt(str(fields.get("id", number)), str(fields.get("source", "prompts")), text, f"{path}:{number}")
