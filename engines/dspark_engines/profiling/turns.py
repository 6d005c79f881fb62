"""Kinds of work timed in turns, and what their times are summed up to."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from dspark_engines.profiling.bench import Step

K = TypeVar("K")


def alternate(
    steps: Mapping[K, Step], turns: Callable[[float], int], seed: int, tell: Callable[[float], None]
) -> dict[K, list[float]]:
    """Seconds of every kind of step, equally many of each, in random order so that a drifting machine favours none.

    `turns(seconds)` says how many turns there shall be when one of them takes so long; `tell` gets the share done.
    """
    times: dict[K, list[float]] = {key: [] for key in steps}
    random, keys = np.random.default_rng(seed), list(steps)
    for step in steps.values():  # the first ones of their kind are slow
        step()
    started, turn, wanted = time.perf_counter(), 0, 1
    while turn < wanted:
        for index in random.permutation(len(keys)):
            times[keys[index]].append(steps[keys[index]]())
        turn += 1
        wanted = turns((time.perf_counter() - started) / turn)
        tell(min(1.0, turn / wanted))
    return times


def quartiles(times: Sequence[float]) -> dict[str, Any]:
    """`seconds` (the median), `low` and `high` (quartiles) and number of `samples`, as measurements have them."""
    low, middle, high = (float(x) for x in np.percentile(times, (25, 50, 75)))
    return {"seconds": middle, "low": low, "high": high, "samples": len(times)}
