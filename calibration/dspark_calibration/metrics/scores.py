"""Ranking and proper scores."""

from __future__ import annotations

import numpy as np

from dspark_calibration.arrays import Doubles

SMALLEST = 1e-12
"""Log-loss takes probabilities no nearer to 0 and 1 than this: one certain mistake shall not be infinite."""


def auroc(score: Doubles, outcome: Doubles) -> float | None:
    """P(a survivor scores above a casualty), ties counting half (Mann and Whitney); None when one kind is absent."""
    positive = outcome > 0.5
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return None
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - 0.5 * (counts - 1)  # mean rank, from 1, of every distinct score
    return float((ranks[inverse][positive].sum() - 0.5 * n * (n + 1)) / (n * m))


def brier(probability: Doubles, outcome: Doubles) -> float:
    """Mean squared error; 0 for no samples."""
    return float(np.mean((probability - outcome) ** 2)) if len(probability) else 0.0


def log_loss(probability: Doubles, outcome: Doubles) -> float:
    """Mean negative log-likelihood in nats; 0 for no samples."""
    if not len(probability):
        return 0.0
    p = np.clip(probability, SMALLEST, 1.0 - SMALLEST)
    return float(-np.mean(outcome * np.log(p) + (1.0 - outcome) * np.log1p(-p)))
