"""Prompt sets: one JSON object a line, with `prompt` and optionally `id` and `source`; and their token ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dspark_engines import Bundle, GenerationRequest
from dspark_engines.errors import DsparkError, RequestError, TextError
from dspark_engines.runtime import check_request
from dspark_engines.text import TextCodec
from dspark_engines.text_file import SURROGATE, parse_json, read_lines

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
    """Token ids of every prompt, through the chat template; as they are where the model has none.

    Raises `RequestError` naming the first that `bundle` cannot serve. With `cut` longer ones than its context are left
    in, for callers that take as much as fits.
    """
    codec = TextCodec(bundle)
    return [_encode(bundle, codec, prompt, cut) for prompt in prompts]


def _encode(bundle: Bundle, codec: TextCodec, prompt: Prompt, cut: bool) -> list[int]:
    try:
        ids = codec.prompt_ids(prompt.text, raw=not codec.chats)
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
    return [_prompt(*line) for line in read_objects(path)][:limit]


def _prompt(place: str, number: int, fields: dict[str, Any]) -> Prompt:
    id, source = str(fields.get("id", number)), str(fields.get("source", "prompts"))
    return make_prompt(place, id, source, fields.get("prompt"))


def make_prompt(place: str, id: str, source: str, text: object) -> Prompt:
    """A prompt that was read at `place`. Raises `DsparkError` for an empty text and for half characters."""
    if not isinstance(text, str) or not text.strip():
        raise DsparkError(f"{place}: no prompt in this line", hint=HINT)
    prompt = Prompt(id, source, text, place)
    if any(SURROGATE.search(part) for part in prompt[:3]):
        raise DsparkError(f"{place}: half a character (a lone surrogate) in this line", hint="write it anew as UTF-8")
    return prompt


def read_objects(path: Path) -> list[tuple[str, int, dict[str, Any]]]:
    """The objects of a JSON Lines file: where each stands (FILE:LINE), its line's number, its keys.

    Raises `DsparkError` naming the bad line, or `path` when it cannot be read or holds nothing.
    """
    try:
        lines = read_lines(path)
    except OSError as error:
        raise DsparkError(f"{path}: not readable: {error.strerror}", hint="pass a JSON Lines file") from None
    if not lines:
        raise DsparkError(f"{path}: holds no prompt", hint=HINT)
    return [(f"{path}:{number}", number, _object(f"{path}:{number}", line)) for number, line in lines]


def _object(place: str, line: str) -> dict[str, Any]:
    try:
        fields = parse_json(line)
    except TextError as error:
        raise DsparkError(f"{place}: {error}", hint=HINT) from None
    if not isinstance(fields, dict):
        raise DsparkError(f"{place}: no prompt in this line", hint=HINT)
    return fields
