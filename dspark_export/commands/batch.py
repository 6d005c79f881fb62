"""Batch files: one JSON request a line in, one JSON result a line out, in the same order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from dspark_calibration import first_problem
from dspark_engines import DsparkError, GenerationRequest, GenerationResult, Runtime, SamplingParams
from dspark_engines.errors import RequestError
from dspark_engines.runtime import RequestStream
from dspark_engines.sampling.params import SEEDS
from dspark_engines.text import TextCodec
from dspark_export.commands.sampling import FIELDS

SEED_STEP = 0x9E3779B97F4A7C15
"""Lines without a seed get seeds of their own, far apart: one seed for all would draw the same for equal prompts."""


class BatchLine(BaseModel):
    """One line; what it leaves out comes from the command line."""

    model_config = ConfigDict(extra="forbid")

    prompt: str
    id: str | int | None = None
    max_new_tokens: PositiveInt | None = None
    raw: bool | None = None
    speculate: bool | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Defaults:
    """What lines fall back on."""

    max_new_tokens: int
    raw: bool
    speculate: bool
    sampling: SamplingParams


@dataclass(frozen=True)
class Submitted:
    """One line of the file (FILE:LINE): its stream, or what was wrong with it."""

    place: str
    line: BatchLine | None
    stream: RequestStream | None
    error: DsparkError | None


Numbered = tuple[int, str]
"""A line's number in the file, and its text."""


def read_lines(path: Path) -> list[Numbered]:
    """The lines that hold something. Raises `RequestError` when the file cannot be read or is empty."""
    try:
        lines = path.read_text("utf-8").split("\n")  # JSON may hold what else Python ends a line at, U+2028 say
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: not readable: {error}", hint="pass a JSON Lines file") from None
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise RequestError(f"{path}: holds no request", hint='one JSON object a line, with the key "prompt"')
    return numbered


def submit_lines(
    path: Path, lines: list[Numbered], runtime: Runtime, codec: TextCodec, defaults: Defaults
) -> list[Submitted]:
    """Submit every line. One that is wrong is reported in its place, the others run."""
    return [_submit(path, number, text, runtime, codec, defaults) for number, text in lines]


def results(
    submitted: list[Submitted], codec: TextCodec
) -> Iterator[tuple[GenerationResult | DsparkError, dict[str, Any]]]:
    """One result (or what was wrong with the line, or its generation) and its report a line, in the file's order."""
    for entry in submitted:
        identity = {"id": entry.line.id} if entry.line and entry.line.id is not None else {}
        result = _wait(entry)
        if isinstance(result, DsparkError):
            yield result, identity | {"error": str(result)}
        else:
            yield result, identity | result.report(codec.tokenizer.decode(result.token_ids))


def _wait(entry: Submitted) -> GenerationResult | DsparkError:
    if entry.stream is None:
        assert entry.error is not None, "a line without a stream was wrong"
        return entry.error
    try:
        return entry.stream.result()
    except DsparkError as error:
        return DsparkError(f"{entry.place}: {error}", hint=error.hint)


def _submit(path: Path, number: int, text: str, runtime: Runtime, codec: TextCodec, defaults: Defaults) -> Submitted:
    place = f"{path}:{number}"
    try:
        line = _parse(text)
        return Submitted(place, line, runtime.submit(_request(line, number, codec, defaults)), None)
    except DsparkError as error:
        return Submitted(place, None, None, RequestError(f"{place}: {error}", hint=error.hint))


def _parse(text: str) -> BatchLine:
    try:
        return BatchLine.model_validate(json.loads(text))
    except ValidationError as error:
        raise RequestError(first_problem(error), hint="correct this line") from None
    except ValueError as error:
        raise RequestError(f"not JSON: {error}", hint="one JSON object a line") from None


def _request(line: BatchLine, number: int, codec: TextCodec, defaults: Defaults) -> GenerationRequest:
    given = {name: value for name in FIELDS if (value := getattr(line, name)) is not None}
    seed = {"seed": (defaults.sampling.seed + number * SEED_STEP) % SEEDS}
    return GenerationRequest(
        codec.prompt_ids(line.prompt, raw=defaults.raw if line.raw is None else line.raw),
        line.max_new_tokens or defaults.max_new_tokens,
        defaults.speculate if line.speculate is None else line.speculate,
        replace(defaults.sampling, **{**seed, **given}),
    )
