"""Batch files: one JSON request a line in, one JSON result a line out, in the same order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError

from dspark_calibration import first_problem
from dspark_engines import DsparkError, GenerationRequest, GenerationResult, Runtime, SamplingParams
from dspark_engines.errors import RequestError, TextError
from dspark_engines.runtime import RequestStream
from dspark_engines.sampling.params import SEEDS
from dspark_engines.text import TextCodec
from dspark_engines.text_file import OBJECTS, Numbered, parse_json, read_lines
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


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """One line of the file: its stream, or what was wrong with it. `place` is FILE:LINE."""

    place: str
    line: BatchLine | None = None
    stream: RequestStream | None = None
    error: DsparkError | None = None

    def result(self) -> GenerationResult:
        """Wait for it. Raises `DsparkError`, which begins with the line's place, when the line or its run failed."""
        error = self.error
        if self.stream is not None:
            try:
                return self.stream.result()
            except DsparkError as failure:
                error = failure
        assert error is not None, "a line that was not submitted is wrong"
        raise RequestError(f"{self.place}: {error}", hint=error.hint) from error


@dataclass(frozen=True)
class Answer:
    """What came of a line: a result or an error, and its JSON."""

    result: GenerationResult | None
    error: DsparkError | None
    report: dict[str, Any]


def read_requests(path: Path) -> list[Numbered]:
    """The lines that hold something. Raises `DsparkError` when the file cannot be read or is empty."""
    try:
        lines = read_lines(path)
    except OSError as error:
        raise RequestError(f"{path}: not readable: {error.strerror}", hint="pass a JSON Lines file") from None
    if not lines:
        raise RequestError(f"{path}: holds no request", hint='one JSON object a line, with the key "prompt"')
    return lines


def submit_lines(
    path: Path, lines: list[Numbered], runtime: Runtime, codec: TextCodec, defaults: Defaults
) -> list[Submitted]:
    """Submit every line. One that is wrong is reported in its place, the others run."""
    return [_submit(f"{path}:{number}", number, text, runtime, codec, defaults) for number, text in lines]


def results(submitted: list[Submitted], codec: TextCodec) -> Iterator[Answer]:
    """One answer a line, as they finish, in the file's order."""
    for entry in submitted:
        identity = {"id": entry.line.id} if entry.line and entry.line.id is not None else {}
        try:
            result = entry.result()
            report = result.report(codec.tokenizer.decode(result.token_ids))
        except DsparkError as error:
            yield Answer(None, error, identity | {"error": str(error)})
        else:
            yield Answer(result, None, identity | report)


def _submit(place: str, number: int, text: str, runtime: Runtime, codec: TextCodec, defaults: Defaults) -> Submitted:
    line = None
    try:
        line = _parse(text)
        stream = runtime.submit(_request(line, number, codec, defaults))
        return Submitted(place=place, line=line, stream=stream)
    except DsparkError as error:
        return Submitted(place=place, line=line, error=error)


def _parse(text: str) -> BatchLine:
    try:
        return BatchLine.model_validate(parse_json(text))
    except ValidationError as error:
        raise RequestError(first_problem(error), hint="correct this line") from None
    except TextError as error:
        raise RequestError(str(error), hint=OBJECTS) from None


def _request(line: BatchLine, number: int, codec: TextCodec, defaults: Defaults) -> GenerationRequest:
    given = {name: value for name in FIELDS if (value := getattr(line, name)) is not None}
    seed = {"seed": (defaults.sampling.seed + number * SEED_STEP) % SEEDS}
    return GenerationRequest(
        codec.prompt_ids(line.prompt, raw=defaults.raw if line.raw is None else line.raw),
        line.max_new_tokens or defaults.max_new_tokens,
        defaults.speculate if line.speculate is None else line.speculate,
        replace(defaults.sampling, **{**seed, **given}),
    )
