"""The array form's answers on a CPU, where arrays can be worked on in place and looking at data is cheap."""

from __future__ import annotations

import numpy as np

from dspark_engines.arrays import Doubles, Ints
from dspark_engines.scheduler.arrays import admit


def best_budget(survival: Doubles, anchors: int, sps: Doubles) -> Ints:
    """How many of […, γ, R] to admit for the largest Θ of all; of equally good numbers the smallest.

    `throughput` of `rank`, with the sign turned: an ascending sort is the one there is.
    """
    flat = survival.reshape((*survival.shape[:-2], -1))
    theta = np.empty((*flat.shape[:-1], 1 + flat.shape[-1]))
    theta[..., 0] = -anchors
    np.negative(flat, out=theta[..., 1:])
    theta[..., 1:].sort(axis=-1)
    np.add.accumulate(theta, axis=-1, out=theta)
    theta *= sps
    return np.asarray(theta.argmin(axis=-1))


def nth_largest(survival: Doubles, budget: Ints) -> Doubles:
    """The `budget`-th largest survival of […, γ, R]; the largest when `budget` is 0.

    One step needs no sorting for it; several have different budgets, and are sorted at once.
    """
    flat = survival.reshape((*survival.shape[:-2], -1))
    index = np.minimum(flat.shape[-1] - budget, flat.shape[-1] - 1)
    if flat.ndim == 1:
        return np.asarray(np.partition(flat, index)[index])
    return np.asarray(np.take_along_axis(np.sort(flat), index[..., None], axis=-1)[..., 0])


def admit_first(survival: Doubles, budget: Ints, edge: Doubles) -> Ints:
    """`admit`, which is asked only where more than the `budget` are as likely as the last of them.

    Elsewhere who is at `edge` or above is in.
    """
    lengths: Ints = (survival >= edge[..., None, None]).sum(axis=-2)
    if (lengths.sum(axis=-1) > budget).any():
        return np.asarray(admit(np, survival, budget, edge), np.int64)
    return lengths
