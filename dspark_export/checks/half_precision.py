"""What half precision may cost: errors by line, held against the size of the line."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dspark_export.checks.tolerances import HALF_SHARES

Array = npt.NDArray[Any]


class LineErrors(NamedTuple):
    """Errors of one output; true when every line is within its share (NaN never is)."""

    max_absdiff: float
    mean_absdiff: float
    passed: bool

    def __bool__(self) -> bool:
        return self.passed


def compare_lines(actual: Array, expected: Array, dtype: str, least: float = 0.0) -> LineErrors:
    """Errors of [..., W]: each line's root mean square against the line's own, or `least`, under `HALF_SHARES`."""
    error = np.abs(actual.astype(np.float64) - expected)
    allowed = HALF_SHARES[dtype] * np.maximum(_size(expected), least)
    passed = actual.shape == expected.shape and bool((_size(error) <= allowed).all())
    return LineErrors(float(error.max(initial=0)), float(error.mean()) if error.size else 0.0, passed)


def largest_turn(line: Array, dtype: str) -> float:
    """How far rounding may bring the two best of these logits [V] towards each other."""
    return 2 * HALF_SHARES[dtype] * float(_size(line))


def _size(lines: Array) -> Array:
    """Root mean square of every line."""
    return np.asarray(np.sqrt((lines.astype(np.float64) ** 2).mean(-1)))
