"""`dspark::MarkovHead`: the function body in ONNX Runtime and the torch heads, against the NumPy oracle."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from dspark_plugins.markov_head import KINDS, OUTPUTS, MarkovHeadSpec
from dspark_plugins.markov_head.reference import MarkovHeadResult, markov_head
from tests.support import markov_cases, one_node
from tests.support.markov_cases import LAST, ZERO, assert_same, one_head_model

VOCAB, HIDDEN, RANK = 37, 6, 3
TEMPERATURES = {1: ([0.0], [0.8]), 2: ([0.0, 0.8], [1.7, 0.0]), 3: ([0.0, 0.0, 0.0], [0.3, 0.0, 1.0])}


def spec(kind: str, block: int, confidence: str = "with") -> MarkovHeadSpec:
    rank, on = 0 if kind == "none" else RANK, confidence != "off"
    return MarkovHeadSpec(kind, block, rank, HIDDEN, on, confidence == "with" and rank > 0)


SPECS = [
    spec(kind, block, confidence)
    for kind in KINDS
    for confidence in ("off", "without", "with")
    for block in (1, 2, 7)
    if not (kind == "none" and confidence == "with")
]


REDUCED = [replace(spec(kind, 3), reduced=True) for kind in KINDS]
"""Heads that draft every third token of a vocabulary."""


def name(head: MarkovHeadSpec) -> str:
    confidence = "markov" if head.confidence_with_markov else "plain" if head.confidence else "off"
    return f"{head.kind}-{confidence}-{head.block_size}{'-reduced' if head.reduced else ''}"


def weights_for(head: MarkovHeadSpec, vocab: int = VOCAB) -> dict[str, np.ndarray]:
    return markov_cases.weights_for(head, vocab)


def feeds_for(head: MarkovHeadSpec, temperature: list[float], seed: int, vocab: int = VOCAB) -> dict[str, np.ndarray]:
    return markov_cases.feeds_for(head, temperature, seed, vocab)


BODIES = pytest.mark.parametrize("branching", [True, False], ids=["branching", "straight"])


@cache
def session(head: MarkovHeadSpec, vocab: int = VOCAB, branching: bool = True) -> Any:
    return one_node.session(one_head_model(head, vocab, branching=branching))


def both(
    head: MarkovHeadSpec, feeds: dict[str, np.ndarray], weights: dict[str, np.ndarray], branching: bool
) -> tuple[Any, Any]:
    """(the body's result, the oracle's)."""
    vocab = feeds["base_logits"].shape[-1]
    result = one_node.run(session(head, vocab, branching), feeds | weights)
    return MarkovHeadResult(*(result[key] for key in OUTPUTS)), markov_head(head, **feeds, weights=weights)


@BODIES
@pytest.mark.parametrize("head", [*SPECS, *REDUCED], ids=name)
def test_body_matches_oracle(head: MarkovHeadSpec, branching: bool) -> None:
    for rows, choices in TEMPERATURES.items():
        for seed, temperature in enumerate(choices):
            feeds = feeds_for(head, temperature, seed + 10 * rows)
            actual, expected = both(head, feeds, weights_for(head), branching)
            assert actual.draft_ids.shape == (rows, head.block_size)
            assert actual.draft_ids.dtype == np.int64
            assert assert_same(feeds, actual, expected) == 0  # fixed seeds: none of these lies on an edge
            assert bool(np.isposinf(actual.confidence_logits).all()) != head.confidence


@BODIES
def test_edges_are_rare(branching: bool) -> None:
    """Many draws over a vocabulary of some size: float32 sums in the body, float64 in the oracle."""
    head = spec("vanilla", 7)
    weights, draws, edges = weights_for(head, 2000), 0, 0
    for seed in range(20):
        feeds = feeds_for(head, [1.0, 0.4] * 8, seed, 2000)
        edges += assert_same(feeds, *both(head, feeds, weights, branching))
        draws += feeds["uniforms"].size
    assert draws == 2240
    assert edges <= 3


@BODIES
@pytest.mark.parametrize("kind", KINDS)
def test_ties_go_to_the_lowest_id(kind: str, branching: bool) -> None:
    head = spec(kind, 2, "off")
    weights = {key: np.zeros_like(array) for key, array in weights_for(head).items()}  # no bias, but the same path
    feeds = feeds_for(head, [0.0, 0.5], 0)
    feeds["base_logits"][:] = 0.0
    feeds["base_logits"][:, :, [9, 20, 36]] = 4.0
    feeds["uniforms"][:] = 0.0
    actual, expected = both(head, feeds, weights, branching)
    np.testing.assert_array_equal(actual.draft_ids, [[9, 9], [0, 0]])  # uniform 0 draws the first id of all
    np.testing.assert_array_equal(expected.draft_ids, actual.draft_ids)
    feeds["base_logits"][:] = 0.0
    feeds["uniforms"][:] = LAST
    np.testing.assert_array_equal(both(head, feeds, weights, branching)[0].draft_ids, [[0, 0], [VOCAB - 1, VOCAB - 1]])


@BODIES
@pytest.mark.parametrize("kind", KINDS)
def test_impossible_tokens_are_never_drafted(kind: str, branching: bool) -> None:
    head = spec(kind, 7, "off")
    feeds = feeds_for(head, [0.0, 0.6, 2.0], 3)
    feeds["base_logits"][:, :, :5] = -np.inf
    feeds["base_logits"][:, :, 30:] = -np.inf
    for uniforms in (ZERO, LAST, feeds["uniforms"]):
        case = feeds | {"uniforms": np.broadcast_to(uniforms, (3, 7)).astype(np.float32)}
        actual, expected = both(head, case, weights_for(head), branching)
        assert_same(case, actual, expected)
        assert 5 <= actual.draft_ids.min() <= actual.draft_ids.max() < 30
        assert uniforms is not ZERO or (actual.draft_ids[1:] == 5).all()
        assert np.isneginf(actual.draft_logits[:, :, :5]).all()


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "mamba"},
        {"block_size": 0},
        {"hidden_size": -1},
        {"rank": 0},
        {"kind": "none"},
        {"kind": "none", "rank": 0},
        {"confidence": False},
    ],
    ids=str,
)
def test_impossible_specs_are_refused(change: dict[str, Any]) -> None:
    fields = {"kind": "gated", "block_size": 2, "rank": 3, "hidden_size": 4}
    with pytest.raises(ValueError, match=r"block_size|rank|kind|confidence"):
        MarkovHeadSpec(**(fields | {"confidence": True, "confidence_with_markov": True} | change))


@pytest.mark.parametrize("head", SPECS, ids=name)
def test_torch_heads_match_oracle(head: MarkovHeadSpec) -> None:
    torch = pytest.importorskip("torch")
    from dspark_export import parity
    from dspark_export.checkpoints import ConfidenceSpec, MarkovSpec
    from dspark_export.graphs.drafter import HEAD_WEIGHTS, MIX

    torch.set_num_threads(1)
    markov, confidence = MarkovSpec(head.kind, head.rank), ConfidenceSpec(head.confidence, head.confidence_with_markov)
    module, weights = parity.DraftHeads(markov, confidence, VOCAB, HIDDEN), weights_for(head)
    mix = f"markov_head.{MIX.get(head.kind)}"
    names = HEAD_WEIGHTS | {"mix_weight": f"{mix}.weight", "mix_bias": f"{mix}.bias"}
    module.load_state_dict({names[key]: torch.from_numpy(array) for key, array in weights.items()}, strict=True)
    feeds = feeds_for(head, [0.0, 0.4, 1.5], 5)
    feeds["base_logits"][:, 0, 11:13] = 9.0  # a tie on top, until the Markov part parts it
    rows = [torch.from_numpy(feeds[key]) for key in ("base_logits", "hidden", "uniforms")]
    with torch.inference_mode():
        drafted = [
            parity.draft_sampled(module, u, h, int(anchor), float(temperature), uniforms)
            for u, h, uniforms, anchor, temperature in zip(
                *rows, feeds["anchor_ids"], feeds["temperature"], strict=True
            )
        ]
    actual = MarkovHeadResult(*(torch.stack(parts).numpy() for parts in zip(*drafted, strict=True)))
    assert assert_same(feeds, actual, markov_head(head, **feeds, weights=weights)) == 0
