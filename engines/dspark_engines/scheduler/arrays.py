"""The searches as array operations alone: no loop and no branch over data, so that they run where the data is.

`xp` is NumPy or a namespace that calls things by the same names (cupy, jax.numpy). The parts take survival
position by position, [γ, R] with R at least 1: flattened, that is the order (j, r) that ties go by. Nothing is
ever ordered by token. A value of 0 is no candidate. Leading axes, […, γ, R], are independent steps.

Sorting the values alone is enough. Equal values are interchangeable in every sum, so the searches see only
sorted values, and who is admitted follows from the last admitted value: all that is above it, and of those
equal to it as many as there is room for, in the order (j, r). That takes one sort and no permutation.
"""

from __future__ import annotations

from typing import Any

import numpy as np

SMALLEST = float(np.finfo(np.float64).tiny)
"""As the edge of admission it keeps zeros out where there is room for more. The smallest normal number, because a
processor that flushes denormals would take anything smaller for 0 and admit rows beyond their caps."""


def algorithm1_array(xp: Any, survival: Any, sps: Any, plain_rows: int = 0) -> Any:
    """The paper's Algorithm 1: survival [R, γ], sps [1 + R·γ] by draft tokens admitted → lengths [R].

    sps[k] is SPS(B) with k candidates admitted, sps[0] that of the anchors alone; it must not rise with k. Rows
    of the step that have no draft count among `plain_rows`.
    """
    by_position = xp.swapaxes(survival, -1, -2)
    ranked = rank(xp, by_position, survival.shape[-2] + plain_rows)
    budget = early_stop(xp, throughput(xp, ranked, sps))
    return admit(xp, by_position, budget, last_admitted(xp, ranked, budget))


def rank(xp: Any, survival: Any, anchors: int) -> Any:
    """[1 + γ·R]: what τ starts from, a token from every anchor, then all values, largest first."""
    steps = survival.shape[:-2]
    start = xp.full((*steps, 1), anchors, dtype=survival.dtype)
    return xp.concatenate([start, -xp.sort(-survival.reshape((*steps, -1)))], axis=-1)


def throughput(xp: Any, ranked: Any, sps: Any) -> Any:
    """Θ = τ·SPS after admitting the first k, for k = 0, 1, …; τ is summed in the order of admission."""
    return xp.cumsum(ranked, axis=-1) * sps


def early_stop(xp: Any, theta: Any) -> Any:
    """How many are admitted before the first Θ that does not improve; all, if every one does."""
    stops = theta[..., 1:] <= theta[..., :-1]
    end = xp.ones((*stops.shape[:-1], 1), dtype=stops.dtype)
    return xp.argmax(xp.concatenate([stops, end], axis=-1), axis=-1)


def last_admitted(xp: Any, ranked: Any, budget: Any) -> Any:
    """The survival of the last of `budget` candidates; with none, what τ starts from: above all, or with no room."""
    return xp.take_along_axis(ranked, budget[..., None], axis=-1)[..., 0]


def admit(xp: Any, survival: Any, budget: Any, edge: Any) -> Any:
    """Lengths [R] when the `budget` candidates that come first in (survival descending, j, r) are admitted, the
    last of which has survival `edge`.

    They are prefixes: a row's survival never rises and of equal values the smaller j comes first, so whoever is
    admitted has all before it in its row admitted.
    """
    edge = edge[..., None, None]
    above, equal = survival > edge, survival == edge
    room = (budget - above.sum(axis=(-2, -1)))[..., None]
    turn = xp.cumsum(equal.reshape((*equal.shape[:-2], -1)), axis=-1)
    return (above | (equal & (turn <= room).reshape(equal.shape))).sum(axis=-2)
