"""Expected calibration error and reliability diagrams (Guo et al. 2017, equations 2 to 5)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dspark_calibration.arrays import Doubles


def prefix_survival(confidence: Doubles) -> Doubles:
    """Cumulative product along the block, [n, g]: probability that a position and all before it are accepted."""
    return np.asarray(np.cumprod(confidence, axis=1), np.float64)


class Bin(NamedTuple):
    """One bar of a reliability diagram: how many, what they said on average, what came of them on average."""

    size: int
    confidence: float
    outcome: float


def bin_index(probability: Doubles, bins: int) -> npt.NDArray[np.int32]:
    """[n] in 0 … bins−1: `bins` bins of equal width, closed below; 1 belongs to the last."""
    return np.minimum((probability * bins).astype(np.int32), np.int32(bins - 1))


def ece(probability: Doubles, outcome: Doubles, bins: int = 20) -> float:
    """Σ over bins of equal width of (share of samples) · |mean outcome − mean probability|; 0 for no samples.

    probability [n] in [0, 1], outcome [n] 0 or 1 (or anything between: an expected outcome).
    """
    if not len(probability):
        return 0.0
    gaps = np.bincount(bin_index(probability, bins), outcome - probability, bins)
    return float(np.abs(gaps).sum() / len(probability))


def ece_equal_mass(probability: Doubles, outcome: Doubles, bins: int = 20) -> float:
    """The same over bins of equally many samples, cut along the sorted probabilities, equal ones never apart."""
    if not len(probability):
        return 0.0
    order = np.argsort(probability, kind="stable")
    ranked, gaps = probability[order], (outcome - probability)[order]
    edges = np.searchsorted(ranked, ranked[np.linspace(0, len(ranked), bins, endpoint=False).astype(np.int64)])
    return float(np.abs(np.add.reduceat(gaps, np.unique(edges))).sum() / len(ranked))


def reliability(probability: Doubles, outcome: Doubles, bins: int = 20) -> list[Bin]:
    """The bins of `ece` that hold something, by rising probability."""
    index = bin_index(probability, bins)
    counts = np.bincount(index, minlength=bins)
    said = np.bincount(index, probability, bins)
    came = np.bincount(index, outcome, bins)
    return [Bin(int(n), float(p / n), float(y / n)) for n, p, y in zip(counts, said, came, strict=True) if n]
