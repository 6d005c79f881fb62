"""A folder of traces: header.json and one NumPy archive a prompt, each written in one rename.

A prompt's file is a function of the header and of the prompt's place in it alone, whoever writes it and when:
that makes a run resumable, and shards that are laid together equal to one run, to the byte.
"""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from dspark_calibration.errors import CalibrationError
from dspark_calibration.problem import first_problem
from dspark_calibration.traces.header import TraceHeader

HEADER = "header.json"
FRESH = "pass --overwrite to begin again, or another --traces folder"


@dataclass(frozen=True)
class PromptTrace:
    """The rounds of one prompt, in order. n rounds, g = block size.

    confidence_logits float32 [n, g], raw; proposed int16 [n], draft tokens that were verified (g unless the end of
    the text or a length limit cut the block); accepted int16 [n], of which survived; context int32 [n], position
    of the anchor. scores float32 [n, g, S]: of drafters without a confidence head, whose confidence_logits say no more
    than whether there is a token at all (-infinity: there is none).
    """

    confidence_logits: npt.NDArray[np.float32]
    proposed: npt.NDArray[np.int16]
    accepted: npt.NDArray[np.int16]
    context: npt.NDArray[np.int32]
    scores: npt.NDArray[np.float32] | None = None

    def problem(self, block_size: int, scores: int = 0) -> str:
        """What is wrong with it, in a few words; nothing when it is sound. `scores`: S, 0 where there are none."""
        n = len(self.confidence_logits)
        if self.confidence_logits.shape != (n, block_size):
            return f"has blocks of {self.confidence_logits.shape[-1]} positions, not {block_size}"
        if any(array.shape != (n,) for array in (self.proposed, self.accepted, self.context)):
            return "has arrays of different lengths"
        if np.isnan(self.confidence_logits).any():
            return "has confidences that are NaN"
        if self._found_scores != ((n, block_size, scores) if scores else None):
            return f"has not {scores} scores for each position"
        if self.scores is not None and np.isnan(self.scores).any():
            return "has scores that are NaN"
        if n and not (self.accepted.min() >= 0 and (self.accepted <= self.proposed).all()):
            return "accepts more than it proposed"
        if n and self.proposed.max() > block_size:
            return "proposes more than a block"
        return ""

    @property
    def arrays(self) -> dict[str, Any]:
        """What is stored, by name."""
        return {name: array for name, array in vars(self).items() if array is not None}

    @property
    def _found_scores(self) -> tuple[int, ...] | None:
        return None if self.scores is None else self.scores.shape


class TraceStore:
    """Traces of one header in one folder."""

    def __init__(self, path: Path, header: TraceHeader) -> None:
        self.path, self.header = path, header

    @classmethod
    def create(cls, path: Path, header: TraceHeader) -> Self:
        """Begin, or go on where an interrupted run of the same header stopped.

        Raises `CalibrationError` when the folder holds traces of something else, `OSError` when it cannot be written.
        """
        if (path / HEADER).is_file():
            store = cls.open(path)
            if different := store.header.differences(header):
                raise CalibrationError(
                    f"{path}: holds traces of another run ({', '.join(different)} differ)", hint=FRESH
                )
            return store
        path.mkdir(parents=True, exist_ok=True)
        with replacing(path / HEADER) as partial:
            partial.write_text(header.model_dump_json(indent=1) + "\n", "utf-8")
        return cls(path, header)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises `CalibrationError` when there are no readable traces in `path`."""
        try:
            return cls(path, TraceHeader.model_validate_json((path / HEADER).read_bytes()))
        except OSError as error:
            raise CalibrationError(
                f"{path}: no traces here ({error.strerror})", hint="dspark-export calibrate makes them"
            ) from None
        except ValidationError as error:
            raise CalibrationError(f"{path / HEADER}: {first_problem(error)}", hint=FRESH) from None

    def file(self, index: int) -> Path:
        """Where the trace of a prompt lies."""
        return self.path / f"{index:06d}.npz"

    def missing(self) -> list[int]:
        """Indices of the prompts that have no trace yet."""
        return [index for index in range(len(self.header.prompts)) if not self.file(index).is_file()]

    def write(self, index: int, trace: PromptTrace) -> None:
        """Store one prompt's rounds. Raises `CalibrationError` for rounds that are not sound, `OSError`."""
        if problem := trace.problem(self.header.block_size, len(self.header.scores)):
            raise CalibrationError(
                f"prompt {self.header.prompts[index].id}: the trace {problem}",
                hint="check the bundle: dspark-export check",
            )
        with replacing(self.file(index)) as partial, partial.open("wb") as file:
            np.savez(file, **trace.arrays)

    def read(self, index: int) -> PromptTrace:
        """One prompt's rounds. Raises `CalibrationError` when they are missing or damaged."""
        file = self.file(index)
        try:
            with np.load(file, allow_pickle=False) as arrays:
                trace = PromptTrace(**{field.name: _array(arrays, field) for field in fields(PromptTrace)})
        except FileNotFoundError:
            raise CalibrationError(
                f"{self.path}: the trace of prompt {self.header.prompts[index].id} is missing",
                hint="run dspark-export calibrate again: it goes on where it stopped",
            ) from None
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise CalibrationError(f"{file}: not readable as a trace: {error}", hint="delete it and go on") from None
        if problem := trace.problem(self.header.block_size, len(self.header.scores)):
            raise CalibrationError(f"{file}: {problem}", hint="delete it and go on; if it comes back: check the bundle")
        return trace


def _array(arrays: Any, field: Field[Any]) -> Any:
    """A field's array; traces without scores are without that one. Raises `KeyError`."""
    return arrays[field.name] if field.default is MISSING or field.name in arrays else field.default


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a file to write, renamed to `path` on success and removed on any failure. Raises `OSError`."""
    partial = path.with_suffix(".partial")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
