"""NumPy oracle of `dspark::Accept`: one row and one position at a time, in float64."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dspark_plugins.accept.contract import BROKEN, RESIDUAL_FLOOR
from dspark_plugins.arrays import Doubles, Ints

Array = npt.NDArray[np.float32]


class AcceptResult(NamedTuple):
    """accepted [R], next_ids [R]."""

    accepted: Ints
    next_ids: Ints


def accept(
    logits: Array,
    draft_ids: Ints,
    draft_logits: Array,
    verify_lengths: Ints,
    temperature: Array,
    uniforms: Array,
) -> AcceptResult:
    """`dspark::Accept` as the contract writes it."""
    rows = len(verify_lengths)
    result = AcceptResult(np.zeros(rows, np.int64), np.zeros(rows, np.int64))
    start = 0
    for row, length in enumerate(verify_lengths):
        target = logits[start : start + length + 1]
        if temperature[row] == 0:
            result.accepted[row], result.next_ids[row] = _greedy_row(target, draft_ids[row, :length])
        else:
            result.accepted[row], result.next_ids[row] = _sampling_row(
                target, draft_ids[row, :length], draft_logits[row], float(temperature[row]), uniforms[row]
            )
        start += length + 1
    return result


def probabilities(logits: Array, temperature: float) -> Doubles:
    """softmax(logits / temperature) over the last axis, for a temperature above 0."""
    values = logits.astype(np.float64)
    weights = np.exp((values - values.max(-1, keepdims=True)) / temperature)
    return np.asarray(weights / weights.sum(-1, keepdims=True))


def stands(p: float, q: float, uniform: float) -> bool:
    """Whether a token of probability p under the target and q under the draft is accepted."""
    return p > 0 and uniform * q <= p


def remainder(p: Doubles, q: Doubles) -> Doubles:
    """What a rejection draws from, not normalised."""
    residual = np.maximum(p - q, 0)
    return residual if residual.sum() > RESIDUAL_FLOOR else p


def draw(weights: Doubles, uniform: float) -> int:
    """The first index whose cumulative weight exceeds uniform * total."""
    cdf = np.cumsum(weights)
    return int(np.searchsorted(cdf, uniform * cdf[-1], side="right"))


def broken(line: Array) -> bool:
    """Whether a line's greatest logit is not finite."""
    return not np.isfinite(line.max())


def _greedy_row(logits: Array, draft_ids: Ints) -> tuple[int, int]:
    for j, token in enumerate([*draft_ids, None]):
        choice = BROKEN if broken(logits[j]) else int(np.argmax(logits[j]))
        if token != choice:
            return j, choice
    raise AssertionError("the last line accepts nothing")


def _sampling_row(
    logits: Array, draft_ids: Ints, draft_logits: Array, temperature: float, uniforms: Array
) -> tuple[int, int]:
    for j, token in enumerate(draft_ids):
        if broken(logits[j]):
            return j, BROKEN
        p = probabilities(logits[j], temperature)
        if broken(draft_logits[j]):
            return j, draw(p, float(uniforms[j, 1]))
        q = probabilities(draft_logits[j], temperature)
        if not stands(p[token], q[token], float(uniforms[j, 0])):
            return j, draw(remainder(p, q), float(uniforms[j, 1]))
    length = len(draft_ids)
    if broken(logits[length]):
        return length, BROKEN
    return length, draw(probabilities(logits[length], temperature), float(uniforms[length, 1]))
