"""Figures over prompts with 95% intervals. Whole prompts are resampled: rounds of one prompt resemble each other.

Every figure draws the same resamples, so that two ways are compared on the same prompts in each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from dspark_calibration.arrays import Doubles, Ints
from dspark_calibration.metrics import interval
from dspark_calibration.report import Measured

RESAMPLES = 2000


@lru_cache(maxsize=8)
def resample_counts(prompts: int, times: int = RESAMPLES, seed: int = 0) -> Ints:
    """How often each of `prompts` is drawn in each resample, [times, prompts]: as many draws as there are prompts."""
    drawn = np.random.default_rng(seed).integers(0, prompts, (times, prompts))
    counts = np.zeros((times, prompts), np.int64)
    np.add.at(counts, (np.arange(times)[:, None], drawn), 1)
    return counts


def estimate_share(top: Sequence[float], bottom: Sequence[float]) -> Measured | None:
    """Sum of `top` over sum of `bottom`, a value of each for every prompt; None where `bottom` is nothing."""
    pairs = np.array([top, bottom], np.float64)
    if not pairs[1].any():
        return None
    found = _shares(*pairs)
    return _measured(float(pairs[0].sum() / pairs[1].sum()), found[~np.isnan(found)])


def estimate_difference(
    first: tuple[Sequence[float], Sequence[float]], second: tuple[Sequence[float], Sequence[float]]
) -> Measured | None:
    """The difference of two such shares on the same prompts; None where either is of nothing."""
    one, other = np.array(first, np.float64), np.array(second, np.float64)
    if not one[1].any() or not other[1].any():
        return None
    found = _shares(*one) - _shares(*other)
    value = one[0].sum() / one[1].sum() - other[0].sum() / other[1].sum()
    return _measured(float(value), found[~np.isnan(found)])


def estimate_geometric_mean(ratios: Sequence[float]) -> Measured | None:
    """Of positive ratios, one for each prompt; None of nothing."""
    if not ratios:
        return None
    logs = np.log(np.array(ratios, np.float64))
    means = resample_counts(len(ratios)) @ logs / len(ratios)
    low, high = interval(means.tolist())
    return Measured(value=float(np.exp(logs.mean())), low=float(np.exp(low)), high=float(np.exp(high)))


def _shares(top: Doubles, bottom: Doubles) -> Doubles:
    """In every resample; NaN where it has nothing below."""
    counts = resample_counts(len(top))
    below, shares = counts @ bottom, np.full(len(counts), np.nan)
    np.divide(counts @ top, below, out=shares, where=below > 0)
    return shares


def _measured(value: float, found: Doubles) -> Measured:
    low, high = interval(found.tolist())
    return Measured(value=value, low=low, high=high)
