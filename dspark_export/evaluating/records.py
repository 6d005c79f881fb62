"""records.jsonl: a line for the conditions, then one for every prompt, way and mode. What is there is not run again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self, TypeVar

from pydantic import BaseModel, NonNegativeFloat, NonNegativeInt, ValidationError

from dspark_calibration import Round, first_problem
from dspark_engines.bundle import output_error, replace_file
from dspark_engines.errors import DsparkError
from dspark_export.evaluating.conditions import Conditions, Line
from dspark_export.evaluating.ways import Mode

RECORDS = "records.jsonl"
Key = tuple[str, str, str]
"""Prompt, way and mode."""
ROOM = "free some room and run the command again: finished prompts are kept"
ANEW = "pass --overwrite to begin again, or another --output"
Model = TypeVar("Model", bound=BaseModel)


class Seconds(Line):
    """Wall time, as `dspark_engines.runtime.result.Seconds` has it."""

    prefill: NonNegativeFloat
    draft: NonNegativeFloat
    verify: NonNegativeFloat
    other: NonNegativeFloat

    @property
    def decode(self) -> float:
        """From the first token to the last."""
        return self.draft + self.verify + self.other


class Parting(Line):
    """Where greedy output leaves plain decoding's: the token's place, both tokens (-1: the end), and how far the
    target's two best logits are from each other there; a tie is a difference that floating point explains."""

    position: NonNegativeInt
    plain: int
    speculative: int
    gap: NonNegativeFloat | None
    """None: not a finite number."""
    tie: bool


class Record(Line):
    """One prompt, decoded in one way."""

    prompt: str
    source: str
    way: str
    mode: Mode
    token_ids: list[int]
    text: str
    stop: str
    rounds: list[tuple[int, int, int]]
    """Of every round after the first token: draft tokens verified, of these accepted, tokens produced."""
    seconds: Seconds
    parting: Parting | None = None
    """None: the same tokens as plain decoding, or sampled."""

    @property
    def key(self) -> Key:
        """What it is kept under."""
        return self.prompt, self.way, self.mode

    @property
    def tokens_per_second(self) -> float:
        """Decoding speed: tokens after the first over the time they took; 0 when there was no second."""
        tokens = len(self.token_ids) - 1
        return tokens / self.seconds.decode if tokens > 0 and self.seconds.decode > 0 else 0.0

    @property
    def verifications(self) -> list[Round]:
        """The rounds by name."""
        return [Round(*counts) for counts in self.rounds]


class RecordStore:
    """Records of one evaluation; without a folder they are kept in memory alone."""

    def __init__(self, conditions: Conditions, path: Path | None = None) -> None:
        self.conditions, self.path = conditions, path
        self._records: dict[Key, Record] = {}

    @classmethod
    def open(cls, folder: Path, conditions: Conditions, *, overwrite: bool = False) -> Self:
        """Begin in `folder`, or go on where a run under the same conditions stopped.

        A line that a killed run left half-written is dropped. Raises `DsparkError` for records under other conditions
        (not with `overwrite`) and for a file that is none of ours, `OutputError` when it cannot be written.
        """
        store = cls(conditions, folder / RECORDS)
        try:
            lines = [] if overwrite or not (folder / RECORDS).exists() else _whole_lines(folder / RECORDS)
            store._take(lines)
            folder.mkdir(parents=True, exist_ok=True)
            replace_file(folder / RECORDS, b"".join(_dump(line) for line in [conditions, *store._records.values()]))
        except OSError as error:
            raise output_error(error, folder / RECORDS, ROOM) from error
        return store

    def _take(self, lines: Sequence[bytes]) -> None:
        if not lines:
            return
        different = self.conditions.differences(_parse(Conditions, lines[0], f"{self.path}:1"))
        if different:
            raise DsparkError(f"{self.path}: recorded under other conditions: {'; '.join(different)}", hint=ANEW)
        for number, line in enumerate(lines[1:], 2):
            record = _parse(Record, line, f"{self.path}:{number}")
            self._records[record.key] = record

    def find(self, prompt: str, way: str, mode: Mode) -> Record | None:
        """What was recorded, if it was."""
        return self._records.get((prompt, way, mode))

    def add(self, records: Sequence[Record]) -> None:
        """Keep whole lines, all of one turn at once. Raises `OutputError`."""
        self._records.update({record.key: record for record in records})
        if self.path is None:
            return
        try:
            with self.path.open("ab") as file:
                file.write(b"".join(map(_dump, records)))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise output_error(error, self.path, ROOM) from error


def _whole_lines(path: Path) -> list[bytes]:
    """What ends with a line feed; the first line is never half-written, so without one the file is none of ours."""
    *whole, rest = path.read_bytes().split(b"\n")
    return whole or ([rest] if rest else [])


def _dump(line: BaseModel) -> bytes:
    return line.model_dump_json().encode() + b"\n"


def _parse(model: type[Model], line: bytes, place: str) -> Model:
    try:
        return model.model_validate_json(line)
    except ValidationError as error:
        raise DsparkError(f"{place}: no record of an evaluation: {first_problem(error)}", hint=ANEW) from None
