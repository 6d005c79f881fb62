"""How a step of any rows is carried out by launches of fixed shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from dspark_engines.arrays import Ints
from dspark_engines.backends.padded.packing import StepRows
from dspark_engines.backends.padded.shapes import RoleShapes, StepShape
from dspark_engines.backends.padded.slots import PaddedSlot


class Launch(NamedTuple):
    """One launch: `taken` are the indices of its tokens among the step's, `first` the cache row that its rows start at.

    A wide launch sees the caches from `first` on, where its only row has place 0.
    """

    shape: StepShape
    rows: StepRows
    taken: Ints
    first: int


def long_rows(
    shapes: RoleShapes, slots: Sequence[PaddedSlot], lengths: Ints, used: Ints, keep: int
) -> Iterator[Launch]:
    """Wide launches for rows longer than a narrow step takes, all but their last `keep` tokens, in order."""
    starts, width = np.cumsum(lengths) - lengths, shapes.narrow[0].width
    for slot, start, length, before in zip(slots, starts.tolist(), lengths.tolist(), used.tolist(), strict=True):
        done = 0
        while length > width and length - done > keep:
            count = min(length - done - keep, max(shape.tokens for shape in shapes.wide))
            rows = StepRows([0], np.array([count]), np.array([before + done]))
            taken = np.arange(start + done, start + done + count)
            yield Launch(shapes.fit_wide(count), rows, taken, slot.place)
            done += count


def narrow_rows(shapes: RoleShapes, slots: Sequence[PaddedSlot], lengths: Ints, used: Ints, keep: int) -> Launch | None:
    """One launch for the rows, or rows' ends, that `long_rows` left; None when it left nothing."""
    starts, width = np.cumsum(lengths) - lengths, shapes.narrow[0].width
    left = np.where(lengths > width, np.minimum(lengths, keep), lengths)
    chosen = [row for row in range(len(slots)) if left[row] or keep or not lengths[row]]
    if not chosen:
        return None
    places = [slots[row].place for row in chosen]
    rows = StepRows(places, left[chosen], (used + lengths - left)[chosen])
    taken = [np.arange(starts[row] + lengths[row] - left[row], starts[row] + lengths[row]) for row in chosen]
    shape = shapes.fit(max(places) + 1, int(left[chosen].sum()))
    return Launch(shape, rows, np.concatenate(taken), 0)
