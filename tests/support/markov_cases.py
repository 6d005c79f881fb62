"""Inputs for `dspark::MarkovHead`, a model with one node of it, and when two forms of it may disagree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from dspark_export.checks import compare
from dspark_plugins.markov_head import OUTPUTS, MarkovHeadSpec
from dspark_plugins.markov_head.function import markov_head_function
from dspark_plugins.markov_head.reference import MarkovHeadResult, markov_head
from tests.support import one_node

Feeds = dict[str, np.ndarray]

ZERO = np.float32(0)
LAST = np.nextafter(np.float32(1), np.float32(0))  # the largest uniform there is
NEAR = 1e-6  # a uniform this close to a step of the CDF may fall to either side


def weights_for(head: MarkovHeadSpec, vocab: int, seed: int = 0) -> dict[str, np.ndarray]:
    """The op's inputs from w1 on."""
    random, rank, hidden = np.random.default_rng(seed), head.rank, head.hidden_size
    mix = {"gated": (rank, hidden + rank), "rnn": (3 * rank, 2 * rank + hidden)}.get(head.kind, (0, 0))
    shapes = {"w1": (vocab, rank), "w2": (vocab, rank), "mix_weight": mix, "mix_bias": mix[:1]}
    shapes |= {"confidence_weight": (1, hidden + rank * head.confidence_with_markov), "confidence_bias": (1,)}
    floats = [key for key in head.inputs()[5:] if key != "vocabulary"]
    weights = {key: random.standard_normal(shapes[key]).astype(np.float32) for key in floats}
    if head.reduced:  # every third token of a vocabulary three times as large
        weights |= {"vocabulary": np.arange(vocab) * 3 + 1}
        if "w1" in weights:
            weights["w1"] = random.standard_normal((3 * vocab, rank)).astype(np.float32)
    return weights


def feeds_for(head: MarkovHeadSpec, temperature: Sequence[float], seed: int, vocab: int) -> dict[str, np.ndarray]:
    random, rows, block = np.random.default_rng(seed), len(temperature), head.block_size
    return {
        "base_logits": random.standard_normal((rows, block, vocab)).astype(np.float32),
        "anchor_ids": random.integers(0, 3 * vocab if head.reduced else vocab, rows),
        "hidden": random.standard_normal((rows, block, head.hidden_size)).astype(np.float32),
        "temperature": np.array(temperature, np.float32),
        "uniforms": random.random((rows, block)).astype(np.float32),
    }


def tamed(weights: Feeds) -> Feeds:
    """Weights by the square root of what is summed up, so that a large rank does not make large logits."""
    return {name: w / np.float32(np.sqrt(w.shape[-1])) if name != "w1" else w for name, w in weights.items()}


def one_head_model(head: MarkovHeadSpec, vocab: int, *, branching: bool = True) -> ir.Model:
    """A graph of one `dspark::MarkovHead` whose weights are inputs."""
    weights = weights_for(head, vocab)
    block, hidden = head.block_size, head.hidden_size
    inputs: dict[str, Any] = {"base_logits": ["B", block, vocab], "anchor_ids": ["B"], "hidden": ["B", block, hidden]}
    inputs |= {"temperature": ["B"], "uniforms": ["B", block], **{k: v.shape for k, v in weights.items()}}
    shapes = (["B", block], ["B", block], ["B", block, vocab])
    outputs = dict(zip(OUTPUTS, shapes, strict=True))
    return one_node.one_node_model(markov_head_function(head, branching=branching), head.attributes(), inputs, outputs)


def off_the_edges(feeds: Feeds, expected: MarkovHeadResult) -> bool:
    """Whether no draw is so close to a step of its CDF that rounding may decide it."""
    for row, j in np.ndindex(*feeds["uniforms"].shape):
        if feeds["temperature"][row] > 0:
            logits = expected.draft_logits[row, j].astype(np.float64) / feeds["temperature"][row]
            cdf = np.cumsum(np.exp(logits - logits.max()))
            if np.abs(cdf[:-1] / cdf[-1] - feeds["uniforms"][row, j]).min() < NEAR:
                return False
    return True


def moved_off_the_edges(head: MarkovHeadSpec, feeds: Feeds, weights: Feeds) -> MarkovHeadResult:
    """What the oracle drafts, once every uniform near a step of its CDF is in the middle of a token; feeds change.

    With a large vocabulary most uniforms are near one. A position's CDF depends on the tokens before it.
    """
    for j in range(head.block_size):
        expected = markov_head(head, **feeds, weights=weights)
        for row in np.flatnonzero(feeds["temperature"] > 0):
            scaled = expected.draft_logits[row, j].astype(np.float64) / feeds["temperature"][row]
            feeds["uniforms"][row, j] = off_the_edge(np.exp(scaled - scaled.max()), feeds["uniforms"][row, j])
    return markov_head(head, **feeds, weights=weights)


def off_the_edge(weights: np.ndarray, uniform: float) -> float:
    """`uniform`, or the middle of the nearest token that is wide enough, if it lies too near to a step."""
    ends = np.cumsum(weights) / weights.sum()
    if np.abs(ends - uniform).min() >= 2 * NEAR:
        return uniform
    starts = np.concatenate([[0.0], ends[:-1]])
    middles = np.where(ends - starts > 4 * NEAR, (starts + ends) / 2, np.inf)
    return float(middles[np.abs(middles - uniform).argmin()])


def assert_same(feeds: dict[str, np.ndarray], actual: Any, expected: Any) -> int:
    """Ids exactly, the rest by the table; returns the rows that a uniform on the CDF's edge let part."""
    edges = 0
    for row, temperature in enumerate(feeds["temperature"]):
        wrong = np.flatnonzero(actual.draft_ids[row] != expected.draft_ids[row])
        same = int(wrong[0]) + 1 if wrong.size else len(expected.draft_ids[row])
        if wrong.size:
            assert temperature > 0, f"row {row} is greedy, and differs at {wrong[0]}"
            logits = expected.draft_logits[row, wrong[0]].astype(np.float64) / temperature
            cdf = np.cumsum(np.exp(logits - logits.max()))
            assert np.abs(cdf / cdf[-1] - feeds["uniforms"][row, wrong[0]]).min() < NEAR, f"row {row} at {wrong[0]}"
            edges += 1
        for which in ("draft_logits", "confidence_logits"):
            comparison = compare("MarkovHead", getattr(actual, which)[row, :same], getattr(expected, which)[row, :same])
            assert comparison.passed, (which, comparison)
    return edges
