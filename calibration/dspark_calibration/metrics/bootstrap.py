"""How sure a figure is: resampling whole prompts, because rounds of one prompt resemble each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from dspark_calibration.arrays import Ints
from dspark_calibration.traces.rounds import Rounds

COVERAGE = 0.95


class Interval(NamedTuple):
    """The middle 95% of the resampled figures."""

    low: float
    high: float


def resample_prompts(rounds: Rounds, times: int, seed: int = 0, size: int | None = None) -> Iterator[Rounds]:
    """`times` resamples: prompts drawn with replacement, as many as there are, each with all its rounds.

    With `size`, prompts are drawn until they have so many rounds: what a smaller sample would look like.
    """
    prompts, starts = np.unique(rounds.prompt, return_index=True)
    groups: list[Ints] = np.split(np.arange(len(rounds)), starts[1:])
    random = np.random.default_rng(seed)
    mean = len(rounds) / max(1, len(prompts))
    count = len(prompts) if size is None else max(1, round(size / mean))
    for _ in range(times):
        drawn = random.integers(0, len(prompts), count)
        yield rounds.take(np.concatenate([groups[i] for i in drawn.tolist()]))


def interval(figures: Sequence[float]) -> Interval:
    """The middle of `figures`."""
    tail = 50.0 * (1.0 - COVERAGE)
    low, high = np.percentile(np.asarray(figures, np.float64), [tail, 100.0 - tail])
    return Interval(float(low), float(high))
