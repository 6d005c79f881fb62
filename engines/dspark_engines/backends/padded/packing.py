"""Where everything lies in a padded step: the index inputs of lowered graphs, computed on the host.

Linear layers run on packed tokens; attention wants rows of equal width. Between them lie two gathers, `pad_rows`
and `unpad`. Rows that a step does not serve are parked: they write behind every cell that is ever read, and see one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dspark_engines.arrays import Ints
from dspark_engines.backends.padded.shapes import StepShape


@dataclass(frozen=True)
class StepRows:
    """Rows of one step: `places` [n] are their cache rows, `lengths` [n] their tokens, `used` [n] cells before."""

    places: Sequence[int]
    lengths: Ints
    used: Ints

    def starts(self) -> Ints:
        """Where each row's tokens begin in the packed order, [n]."""
        return np.cumsum(self.lengths) - self.lengths

    def positions(self, total: int) -> Ints:
        """Position of every packed token, filled up to `total` with 0."""
        offsets = np.arange(int(self.lengths.sum())) - np.repeat(self.starts(), self.lengths)
        return filled(np.repeat(self.used, self.lengths) + offsets, total)


def verify_indices(rows: StepRows, shape: StepShape, capacity: int) -> dict[str, Ints]:
    """Index inputs of a verify step: positions [N], pad_rows [R, S], unpad [N], used [R], visible [R]."""
    pad, unpad = np.zeros((shape.rows, shape.width), np.int64), np.zeros(shape.tokens, np.int64)
    used, visible = _parked(shape.rows, capacity - shape.width)
    for place, start, length, before in zip(rows.places, rows.starts(), rows.lengths, rows.used, strict=True):
        pad[place, :length] = np.arange(start, start + length)
        unpad[start : start + length] = place * shape.width + np.arange(length)
        used[place], visible[place] = before, before + shape.width
    return {
        "positions": rows.positions(shape.tokens),
        "pad_rows": pad,
        "unpad": unpad,
        "used": used,
        "visible": visible,
    }


def draft_indices(rows: StepRows, shape: StepShape, block: int, capacity: int) -> dict[str, Ints]:
    """Index inputs of a draft step; packed are M features, then R blocks.

    positions [M + R*block], block_positions [R*block], pad_rows [R, S + block], used [R], visible [R].
    """
    width = shape.width + block
    pad, blocks = np.zeros((shape.rows, width), np.int64), np.tile(np.arange(block), (shape.rows, 1))
    used, visible = _parked(shape.rows, capacity - width)
    for place, start, length, before in zip(rows.places, rows.starts(), rows.lengths, rows.used, strict=True):
        pad[place, :length] = np.arange(start, start + length)
        pad[place, length : length + block] = shape.tokens + place * block + np.arange(block)
        blocks[place] += before + length
        used[place], visible[place] = before, before + length + block
    return {
        "positions": np.concatenate([rows.positions(shape.tokens), blocks.reshape(-1)]),
        "block_positions": blocks.reshape(-1),
        "pad_rows": pad,
        "used": used,
        "visible": visible,
    }


def filled(values: np.ndarray, total: int) -> np.ndarray:
    """`values` with zeros, or rows of them, behind, `total` in all."""
    result = np.zeros((total, *values.shape[1:]), values.dtype)
    result[: len(values)] = values
    return result


def by_place(values: np.ndarray, places: Sequence[int], rows: int) -> np.ndarray:
    """One entry a served row, put where its caches are; the others are 0."""
    result = np.zeros((rows, *values.shape[1:]), values.dtype)
    result[list(places)] = values
    return result


def _parked(rows: int, behind: int) -> tuple[Ints, Ints]:
    return np.full(rows, behind, np.int64), np.ones(rows, np.int64)
