"""`dspark::Accept` for a CPU: a row is walked up to its first rejection, and nothing behind it is computed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dspark_engines.arrays import Floats, Ints
from dspark_engines.sampling.contract import Accepted, AcceptInputs
from dspark_engines.sampling.params import SamplingParams
from dspark_engines.sampling.truncate import TINY, truncate
from dspark_plugins.accept import BROKEN, RESIDUAL_FLOOR

TILE = 128  # weights are summed in float32 within a tile, in float64 over the tiles


def accept_rows(
    logits: Floats,
    draft_ids: Ints,
    draft_logits: Floats,
    verify_lengths: Ints,
    temperature: Floats,
    uniforms: Floats,
    params: Sequence[SamplingParams] | None = None,
) -> Accepted:
    """What the op's contract (dspark_plugins/accept/contract.py) says, input for input.

    Only rows with drafts need draft_logits, if they come first, and uniforms behind their first position.
    With `params`, one for each request, `logits` are not truncated yet: the rows that are looked at will be. Greedy
    requests do not look at draft_logits and uniforms. No input is changed. The next id of a row that ends at a line
    without a finite maximum is `BROKEN`: arg-max and max find NaN and infinity at no further cost.
    """
    lengths, end, outcomes = verify_lengths.tolist(), 0, []
    for r, (length, drafted) in enumerate(zip(lengths, draft_ids.tolist(), strict=True)):
        start, end = end, end + length + 1
        target, ids = logits[start:end], drafted[:length]
        if temperature[r] == 0:
            outcome = _greedy_row(target, ids)
        else:
            truncation = params[r] if params else None
            drafts = draft_logits[r] if length else logits[:0]
            outcome = _sampling_row(target, ids, drafts, temperature[r], uniforms[r], truncation)
        outcomes.append(outcome)
    accepted, next_ids = np.array(outcomes, np.int64).reshape(-1, 2).T
    return Accepted(accepted, next_ids)


def accept_step(logits: Floats, inputs: AcceptInputs, params: Sequence[SamplingParams] | None = None) -> Accepted:
    """The same for a step's inputs; draft logits that an engine holds are fetched."""
    ids, drafts, lengths, temperature, uniforms = inputs
    asked = bool((temperature[: len(drafts)] > 0).any())  # greedy rows look at none
    fetched = np.asarray(drafts) if asked else np.empty((len(drafts), 0, 0), np.float32)
    return accept_rows(logits, ids, fetched, lengths, temperature, uniforms, params)


def _greedy_row(logits: Floats, draft_ids: list[int]) -> tuple[int, int]:
    for j, token in enumerate(draft_ids):
        choice = _choice(logits[j])
        if token != choice:
            return j, choice
    return len(draft_ids), _choice(logits[len(draft_ids)])


def _choice(logits: Floats) -> int:
    """The arg-max, which is the first NaN where there is one; `BROKEN` where it is not finite."""
    best = int(logits.argmax())
    return best if math.isfinite(logits[best]) else BROKEN


def _sampling_row(
    logits: Floats,
    draft_ids: list[int],
    draft_logits: Floats,
    temperature: np.float32,
    uniforms: Floats,
    params: SamplingParams | None,
) -> tuple[int, int]:
    for j, token in enumerate(draft_ids):
        p = _distribution(logits[j], temperature, params)
        if p is None:
            return j, BROKEN
        q = _distribution(draft_logits[j], temperature)
        if q is None:
            return j, _draw(p, uniforms[j, 1])
        ours = p.probability(token)
        if ours <= 0 or float(uniforms[j, 0]) * q.probability(token) > ours:
            return j, _draw(_residual(p, q), uniforms[j, 1])
    length = len(draft_ids)
    p = _distribution(logits[length], temperature, params)
    return length, BROKEN if p is None else _draw(p, uniforms[length, 1])


class _Weights(NamedTuple):
    """Probabilities before they are normalised: values [V], and the running sum [n] over tiles of them."""

    values: Floats
    ends: npt.NDArray[np.float64]

    @property
    def total(self) -> float:
        return float(self.ends[-1])

    def probability(self, token: int) -> float:
        return float(self.values[token]) / self.total


def _distribution(logits: Floats, temperature: np.float32, params: SamplingParams | None = None) -> _Weights | None:
    """Of one line, truncated by `params`; None where its greatest logit is not finite."""
    if params is not None:
        logits = truncate(logits[None], params)[0]
    peak = logits.max()
    return _softmax(logits, peak, temperature) if math.isfinite(peak) else None


def _softmax(logits: Floats, peak: np.float32, temperature: np.float32) -> _Weights:
    values = logits - peak
    if temperature != 1:
        values /= max(temperature, TINY)
    return _weigh(np.exp(values, out=values))


def _weigh(values: Floats) -> _Weights:
    tiles = np.add.reduceat(values, np.arange(0, len(values), TILE))
    return _Weights(values, np.cumsum(tiles, dtype=np.float64))


def _residual(p: _Weights, q: _Weights) -> _Weights:
    """max(p - q, 0) in units of p's weights, or p where nothing is left of it."""
    left = q.values * np.float32(-p.total / q.total)
    left += p.values
    residual = _weigh(np.maximum(left, 0, out=left))
    return residual if residual.total > RESIDUAL_FLOOR * p.total else p


def _draw(weights: _Weights, uniform: np.float32) -> int:
    """The first token whose cumulative weight exceeds uniform * total: its tile first, then the token in it."""
    threshold = float(uniform) * weights.total
    tile = int(np.searchsorted(weights.ends, threshold, side="right"))
    before = float(weights.ends[tile - 1]) if tile else 0.0
    inside = np.cumsum(weights.values[tile * TILE : (tile + 1) * TILE], dtype=np.float64)
    # The tile's two sums may differ in the last digit; beyond its last weight there is nothing to draw.
    last = np.searchsorted(inside, inside[-1])
    return tile * TILE + int(min(np.searchsorted(inside, threshold - before, side="right"), last))
