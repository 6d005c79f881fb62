"""One temperature by grid search, on a coarse grid and then twice between the neighbours of the best."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dspark_calibration.arrays import Doubles
from dspark_calibration.metrics.binning import bin_index

GRID: Doubles = np.geomspace(0.05, 100.0, 49)
"""Coarse temperatures; neighbours differ by 17%."""
FINE = 13
"""Temperatures of each refinement, ends included: neighbours differ by 2.7%, then by 0.4%."""
REFINEMENTS = 2
CHUNK = 16384
"""Rounds at a time: what is computed on the way stays in the processor's cache."""


def search(earlier: Doubles, logits: Doubles, outcome: Doubles, bins: int) -> float:
    """The T that minimises the expected calibration error of earlier · σ(logits / T) against `outcome`, all [n]."""
    return refine(lambda temperature: product_ece(earlier, logits, outcome, temperature, bins))


def product_ece(earlier: Doubles, logits: Doubles, outcome: Doubles, temperature: float, bins: int) -> float:
    """`metrics.ece` of earlier · σ(logits / temperature); see there."""
    gaps = np.zeros(bins)
    with np.errstate(over="ignore"):  # exp may become infinite: then σ is 0
        for start in range(0, len(logits), CHUNK):
            part = slice(start, start + CHUNK)
            x = logits[part] * (-1.0 / temperature)
            np.exp(x, out=x)
            x += 1.0
            p = np.divide(earlier[part], x, out=x)
            gaps += np.bincount(bin_index(p, bins), outcome[part] - p, bins)
    return float(np.abs(gaps).sum() / max(1, len(logits)))


def refine(error: Callable[[float], float]) -> float:
    """The best temperature found; of equally good ones the one nearest to 1, which changes least."""
    grid = GRID
    for level in range(1 + REFINEMENTS):
        errors = [error(temperature) for temperature in grid.tolist()]
        best = min(range(len(grid)), key=lambda i: (errors[i], abs(np.log(grid[i]))))
        if level < REFINEMENTS:
            low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
            grid = np.geomspace(low, high, FINE)
    return float(grid[best])
