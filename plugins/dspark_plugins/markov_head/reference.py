"""NumPy oracle of `dspark::MarkovHead`: one row and one position at a time, as design §2 writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dspark_plugins.arrays import Ints
from dspark_plugins.markov_head.contract import MarkovHeadSpec

Array = npt.NDArray[np.float32]


class MarkovHeadResult(NamedTuple):
    """draft_ids [B, g], confidence_logits [B, g], draft_logits [B, g, V]."""

    draft_ids: Ints
    confidence_logits: Array
    draft_logits: Array


def markov_head(
    spec: MarkovHeadSpec,
    base_logits: Array,
    anchor_ids: Ints,
    hidden: Array,
    temperature: Array,
    uniforms: Array,
    weights: Mapping[str, Array],
) -> MarkovHeadResult:
    """`dspark::MarkovHead`; `weights` holds the inputs from `w1` on by their contract names."""
    batch, block, vocab = base_logits.shape
    result = MarkovHeadResult(
        np.zeros((batch, block), np.int64),
        np.full((batch, block), np.inf, np.float32),
        np.zeros((batch, block, vocab), np.float32),
    )
    for row in range(batch):
        previous, state = anchor_ids[row], np.zeros(spec.rank, np.float32)
        for j in range(block):
            bias, state, embedding = _step(spec, previous, state, hidden[row, j], weights)
            logits = base_logits[row, j] + bias
            chosen = choose(logits, float(temperature[row]), float(uniforms[row, j]))
            previous = weights["vocabulary"][chosen] if spec.reduced else chosen
            result.draft_ids[row, j] = previous
            result.draft_logits[row, j] = logits
            if spec.confidence:
                seen = [hidden[row, j], embedding] if spec.confidence_with_markov else [hidden[row, j]]
                weight = weights["confidence_weight"][0]
                score = np.concatenate(seen) @ weight + weights["confidence_bias"][0]
                result.confidence_logits[row, j] = score
    return result


def choose(logits: Array, temperature: float, uniform: float) -> int:
    """The arg-max at temperature 0, else the inverse CDF of softmax(logits / temperature) at `uniform`."""
    if temperature == 0:
        return int(np.argmax(logits))
    scaled = logits.astype(np.float64) / temperature
    cdf = np.cumsum(np.exp(scaled - scaled.max()))
    return int(min(np.searchsorted(cdf, uniform * cdf[-1], side="right"), logits.size - 1))


def _step(
    spec: MarkovHeadSpec, previous: int, state: Array, hidden: Array, weights: Mapping[str, Array]
) -> tuple[Array, Array, Array]:
    """(bias [V], next state [r], embedding [r]) of one position."""
    if spec.kind == "none":
        return np.zeros((), np.float32), state, state
    embedding = weights["w1"][previous]
    if spec.kind == "vanilla":
        mixed = embedding
    elif spec.kind == "gated":
        gate = _sigmoid(weights["mix_weight"] @ np.concatenate([hidden, embedding]) + weights["mix_bias"])
        mixed = gate * embedding
    else:
        joint = np.concatenate([state, embedding, hidden])
        gate, candidate, output = np.split(weights["mix_weight"] @ joint + weights["mix_bias"], 3)
        state = _sigmoid(gate) * state + (1 - _sigmoid(gate)) * np.tanh(candidate)
        mixed = np.tanh(output)
    return weights["w2"] @ mixed, state, embedding


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)), np.float32)
