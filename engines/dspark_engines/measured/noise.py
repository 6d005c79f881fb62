"""How noisy a measured cost table is, beside the differences that a scheduler acts on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dspark_engines.measured.breakeven import FLAT
from dspark_engines.measured.cost_table import CostTable, Timing

MEDIAN_ERROR = 0.93
"""Standard error of a median of n samples in quartile ranges, times √n: 1.2533 σ and 1.349 σ to the range."""


class Noise(NamedTuple):
    """Of one batch size and context; all relative to the time of a verify step.

    spread: what the time of one step scatters by, the distance of its quartiles (median over the sizes).
    error: what is left of that in the medians, which are what the table says.
    difference: what one more draft token a row costs, the mean from the anchors alone to whole blocks. This is
        what a scheduler weighs against the chance that the token survives.
    """

    rows: int
    context: int
    spread: float
    error: float
    difference: float

    @property
    def least(self) -> float:
        """What has to be told apart: that difference, or where there is none, a flat table from one that is not."""
        return max(self.difference, FLAT)

    @property
    def drowns(self) -> bool:
        """Whether the table's error is larger than that; NaN counts as noise."""
        return not self.error <= self.least

    def samples_needed(self, samples: int) -> int:
        """How many would bring the error down to half of that, where `samples` have left it at `error`."""
        return math.ceil(samples * (2.0 * self.error / self.least) ** 2)


def noise_of(table: CostTable) -> list[Noise]:
    """One entry for every batch size and context."""
    entries = []
    for rows in table.rows:
        for context in table.contexts:
            timings = [t for t in table.verify if t.rows == rows and t.context == context]
            if timings:
                entries.append(_noise(rows, context, timings))
    return entries


def _noise(rows: int, context: int, timings: Sequence[Timing]) -> Noise:
    spreads = [(t.high - t.low) / t.seconds for t in timings]
    errors = [MEDIAN_ERROR * spread / math.sqrt(t.samples) for t, spread in zip(timings, spreads, strict=True)]
    return Noise(rows, context, float(np.median(spreads)), float(np.median(errors)), _difference(rows, timings))


def _difference(rows: int, timings: Sequence[Timing]) -> float:
    """Relative rise by a token a row."""
    ends = min(timings, key=lambda t: t.tokens), max(timings, key=lambda t: t.tokens)
    lengths = (ends[1].tokens - ends[0].tokens) / rows
    return max(0.0, ends[1].seconds / ends[0].seconds - 1.0) / lengths if lengths else 0.0
