"""What a round costs by the number of tokens it verifies: the measured table as the schedulers see it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, overload

import numpy as np

from dspark_engines.arrays import Doubles, Ints

Between = Literal["linear", "stairs"]
INITIAL_CAPACITY = 4096
"""Total tokens precomputed at once; a larger question enlarges the table."""


class StepCost:
    """Seconds of the verify engine by total tokens B, from measured (tokens, seconds) points of one context band.

    - More tokens never cost less. Measured points that say otherwise are noise and are pooled to their mean
      (isotonic regression by least squares), which keeps one slow sample from making a step of its own.
    - A cliff is where measurements stand on both its sides. Between two measured sizes "linear" adds none: it
      draws the straight line, so whoever measures puts a point before and a point behind every step that the
      engine is known to have (b and b + 1 for a bucket of b). "stairs" is for engines that pad to the sizes
      that were measured: B costs what the next larger one does, exactly, and a straight line would hide it.
    - Below the first point B costs what the first one does. Beyond the last it rises by the slope over the last
      doubling of B rather than over the last two points, which on a staircase may stand on the same stair.

    `draft_seconds` and `overhead_seconds` are spent once a round whatever is verified: the objective is
    Θ = τ / (seconds(B) + fixed). Leaving them out makes a token look dearer than it is: too much is trimmed.

    Raises `ValueError` for no points, sizes below 1 or twice the same, and times not finite or not positive.
    """

    def __init__(
        self,
        points: Iterable[tuple[int, float]],
        *,
        between: Between = "linear",
        draft_seconds: float = 0.0,
        overhead_seconds: float = 0.0,
    ) -> None:
        pairs = sorted(points)
        self._sizes = np.array([size for size, _ in pairs], np.int64)
        measured = np.array([seconds for _, seconds in pairs], np.float64)
        _check(self._sizes, measured, draft_seconds, overhead_seconds)
        self._times, self._between = isotonic(measured), between
        self._slope = _last_slope(self._sizes, self._times)
        self.fixed_seconds = draft_seconds + overhead_seconds
        self._table = self._sps_until(INITIAL_CAPACITY)

    @property
    def points(self) -> list[tuple[int, float]]:
        """The measured (tokens, seconds) after noise was pooled, by size."""
        return list(zip(self._sizes.tolist(), self._times.tolist(), strict=True))

    def seconds(self, tokens: Ints) -> Doubles:
        """Seconds of one verify step of `tokens` (any shape, each at least 1), without the fixed part."""
        beyond = np.maximum(tokens - self._sizes[-1], 0) * self._slope
        if self._between == "linear":
            return np.asarray(np.interp(tokens, self._sizes, self._times) + beyond)
        stair = np.minimum(np.searchsorted(self._sizes, tokens), len(self._sizes) - 1)
        return np.asarray(self._times[stair] + beyond)

    @overload
    def sps(self, tokens: int) -> float: ...
    @overload
    def sps(self, tokens: Ints) -> Doubles: ...
    def sps(self, tokens: int | Ints) -> float | Doubles:
        """Rounds per second with `tokens` (at least 1) in the verify step, the fixed part included. O(1)."""
        sizes = np.asarray(tokens)
        if sizes.size and sizes.min() < 1:
            raise ValueError("a step has at least one token")
        self._reserve(int(sizes.max(initial=1)))
        return self._table[sizes] if sizes.ndim else float(self._table[int(sizes)])

    def window(self, first: int, count: int) -> Doubles:
        """Rounds per second for `first`, `first` + 1, … (`count` sizes): a view of the table, not to be written."""
        if first < 1:
            raise ValueError("a step has at least one token")
        self._reserve(first + count)
        return self._table[first : first + count]

    def is_flat(self, tolerance: float = 0.02, up_to: int | None = None) -> bool:
        """Whether scheduling is pointless: the largest round takes at most 1 + `tolerance` times the smallest.

        Rounds of one token to `up_to` (default: the last measured size). On a flat table no trimming can gain
        more than `tolerance`, and verifying everything is right.
        """
        smallest, largest = self.sps(1), self.sps(up_to or int(self._sizes[-1]))
        return smallest <= (1.0 + tolerance) * largest

    def _reserve(self, tokens: int) -> None:
        if tokens >= len(self._table):
            self._table = self._sps_until(2 * tokens)

    def _sps_until(self, tokens: int) -> Doubles:
        """Rounds per second, indexed by total tokens; entry 0 stands for no step and is never asked for."""
        table = 1.0 / (self.seconds(np.arange(tokens + 1)) + self.fixed_seconds)
        table.flags.writeable = False
        return table


def isotonic(values: Doubles) -> Doubles:
    """The nearest non-decreasing sequence, by pooling adjacent violators."""
    pools: list[tuple[float, int]] = []
    for value in values.tolist():
        mean, count = value, 1
        while pools and pools[-1][0] > mean:
            before, size = pools.pop()
            mean, count = (before * size + mean * count) / (size + count), size + count
        pools.append((mean, count))
    return np.repeat([mean for mean, _ in pools], [count for _, count in pools])


def _last_slope(sizes: Ints, times: Doubles) -> float:
    """Seconds a token over the last doubling of the size; 0 when only one size was measured."""
    if len(sizes) < 2:
        return 0.0
    start = min(int(np.searchsorted(sizes, sizes[-1] / 2, side="right")) - 1, len(sizes) - 2)
    start = max(start, 0)
    return float((times[-1] - times[start]) / (sizes[-1] - sizes[start]))


def _check(sizes: Ints, seconds: Doubles, *fixed: float) -> None:
    if not sizes.size:
        raise ValueError("a cost table needs at least one measured point")
    if sizes[0] < 1 or (np.diff(sizes) < 1).any():
        raise ValueError("measured sizes are at least 1 and each measured once")
    if not (np.isfinite(seconds).all() and (seconds > 0).all()):
        raise ValueError("measured seconds are finite and above 0")
    if not all(0.0 <= value < np.inf for value in fixed):
        raise ValueError("draft and overhead seconds are finite and not negative")
