"""Top-k, top-p and min-p, in this order, with the meaning that Hugging Face's logits warpers give them.

One difference: where equal logits stand at the border of top-k or top-p, exactly as many are kept as asked for, the
lower token ids first.
"""

from __future__ import annotations

import math

import numpy as np

from dspark_engines.arrays import Floats, Ints
from dspark_engines.sampling.params import SamplingParams

TINY = np.float32(1e-30)
"""The lowest temperature that is divided by; all below it mean the arg-max."""


def truncate(logits: Floats, params: SamplingParams) -> Floats:
    """logits [n, V] with the tokens that softmax(logits / temperature) truncated by `params` excludes at -inf.

    The arg-max of a row is always kept. Returns `logits` itself when `params` exclude nothing, else a new array. A row
    whose greatest logit is not finite (NaN among them, say) has no distribution to truncate and comes back as it is.
    """
    if not params.truncates:
        return logits
    result = np.full_like(logits, -np.inf)
    for row, out in zip(logits, result, strict=True):
        kept = kept_tokens(row, params) if math.isfinite(row.max()) else slice(None)
        out[kept] = row[kept]
    return result


def kept_tokens(logits: Floats, params: SamplingParams) -> Ints:
    """The ids, ascending, that remain of one row's logits [V]."""
    if 0 < params.top_k < len(logits):
        kept = _largest(logits, params.top_k, np.partition(logits, -params.top_k)[-params.top_k])
    else:
        kept = np.arange(len(logits))
    values = logits[kept]
    if params.top_p < 1:
        kept = kept[_largest(values, *_nucleus(values, params))]
        values = logits[kept]
    if params.min_p > 0:  # p >= min_p * max(p), as logits
        kept = kept[values - values.max() >= params.temperature * math.log(params.min_p)]
    return kept


def _largest(values: Floats, count: int, border: np.float32) -> Ints:
    """Indices, ascending, of the `count` largest values, the smallest of which is `border`; lower indices first."""
    kept = np.flatnonzero(values >= border)
    if len(kept) > count:
        ties = np.flatnonzero(values[kept] == border)
        kept = np.delete(kept, ties[count - len(kept) :])
    return kept


def _nucleus(values: Floats, params: SamplingParams) -> tuple[int, np.float32]:
    """(size, smallest value) of the fewest most likely tokens whose mass reaches top_p."""
    peak, temperature = values.max(), max(np.float32(params.temperature), TINY)
    weights = np.exp((values - peak) / temperature)
    total = float(weights.sum(dtype=np.float64))
    # Tokens below this share have less than 1 - top_p together, so none of them is in; half of it, for rounding.
    candidates = values[weights >= 0.5 * (1 - params.top_p) * total / len(values)]
    candidates = np.sort(candidates)[::-1]
    mass = np.cumsum(np.exp((candidates - peak) / temperature), dtype=np.float64)
    size = min(int(np.searchsorted(mass, params.top_p * total)), len(candidates) - 1) + 1
    return size, candidates[size - 1]
