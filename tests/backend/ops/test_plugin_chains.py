"""The ops lowered to chains of plugin nodes: the nodes' function bodies in ONNX Runtime, against the NumPy oracles."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from dspark_engines.backends.onnxruntime.loader import onnxruntime
from dspark_export.checks import compare
from dspark_export.graphs import build_accept_graph
from dspark_plugins.accept import BROKEN
from dspark_plugins.accept.lowering import lower_accept_nodes
from dspark_plugins.accept.reference import accept
from dspark_plugins.accept.steps import TILE as ACCEPT_TILE
from dspark_plugins.markov_head import MarkovHeadSpec
from dspark_plugins.markov_head.lowering import lower_markov_heads
from dspark_plugins.markov_head.reference import MarkovHeadResult, markov_head
from dspark_plugins.markov_head.steps import TILE as MARKOV_TILE
from tests.support import accept_cases, one_node
from tests.support.accept_cases import LAST, ZERO, random_case
from tests.support.markov_cases import assert_same, feeds_for, off_the_edges, one_head_model, tamed, weights_for

KINDS = ("vanilla", "gated", "rnn")
CAPABILITY = 90


def head_of(kind: str, block: int, rank: int, confidence: str = "with") -> MarkovHeadSpec:
    return MarkovHeadSpec(kind, block, rank, 10, confidence != "off", confidence == "with")  # type: ignore[arg-type]


@cache
def markov_session(head: MarkovHeadSpec, vocab: int, sampling: bool) -> onnxruntime.InferenceSession:
    model = one_head_model(head, vocab)
    assert lower_markov_heads(model, CAPABILITY, sampling) == 1
    return one_node.session(model)


def run(session: onnxruntime.InferenceSession, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    taken = {value.name for value in session.get_inputs()}
    return one_node.run(session, {name: array for name, array in feeds.items() if name in taken})


def markov_both(
    head: MarkovHeadSpec, feeds: dict[str, np.ndarray], weights: dict[str, np.ndarray], sampling: bool
) -> tuple[MarkovHeadResult, MarkovHeadResult]:
    expected = markov_head(head, **feeds, weights=weights)
    result = run(markov_session(head, feeds["base_logits"].shape[2], sampling), feeds | weights)
    assert sampling == ("draft_logits" in result)
    logits = result.get("draft_logits", expected.draft_logits)
    return MarkovHeadResult(result["draft_ids"], result["confidence_logits"], logits), expected


@pytest.mark.parametrize(
    ("kind", "vocab", "rows", "block", "rank", "confidence"),
    [
        ("vanilla", MARKOV_TILE - 1, 3, 2, 5, "with"),
        ("vanilla", MARKOV_TILE, 1, 1, 16, "without"),
        ("vanilla", 3 * MARKOV_TILE + 1, 2, 7, 3, "off"),
        ("gated", 3 * MARKOV_TILE + 1, 3, 2, 5, "with"),
        ("rnn", 3 * MARKOV_TILE + 1, 3, 2, 5, "with"),
        ("rnn", MARKOV_TILE - 1, 1, 1, 16, "without"),
    ],
)
def test_a_chain_drafts_what_the_oracle_drafts(
    kind: str, vocab: int, rows: int, block: int, rank: int, confidence: str
) -> None:
    head = head_of(kind, block, rank, confidence)
    weights = tamed(weights_for(head, vocab))
    for seed, temperature in enumerate(([0.0] * rows, [0.0, 0.7, 1.4][:rows], [1.0] * rows)):
        feeds = feeds_for(head, temperature, seed, vocab)
        for sampling in {True, max(temperature) > 0}:
            actual, expected = markov_both(head, feeds, weights, sampling)
            assert off_the_edges(feeds, expected)
            assert assert_same(feeds, actual, expected) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_ties_and_impossible_tokens(kind: str) -> None:
    head, vocab = head_of(kind, 2, 4), 3 * MARKOV_TILE
    weights = {name: np.zeros_like(array) for name, array in weights_for(head, vocab).items()}
    feeds = feeds_for(head, [0.0, 0.5], 0, vocab)
    feeds["base_logits"][:] = -np.inf
    feeds["base_logits"][:, :, [40, 47, 70]] = 4.0
    for uniform, token in ((ZERO, 40), (LAST, 70)):
        feeds["uniforms"][:] = uniform
        actual, expected = markov_both(head, feeds, weights, sampling=True)
        np.testing.assert_array_equal(actual.draft_ids, [[40, 40], [token, token]])
        np.testing.assert_array_equal(expected.draft_ids, actual.draft_ids)
    feeds["temperature"][:] = 0
    np.testing.assert_array_equal(markov_both(head, feeds, weights, sampling=False)[0].draft_ids, [[40, 40]] * 2)


@cache
def accept_session(block: int, vocab: int, sampling: bool) -> onnxruntime.InferenceSession:
    model = build_accept_graph(vocab, block)
    assert lower_accept_nodes(model, CAPABILITY, sampling) == 1
    return one_node.session(model)


@pytest.mark.parametrize(("block", "vocab"), [(1, 3), (2, ACCEPT_TILE - 1), (7, ACCEPT_TILE), (2, 2 * ACCEPT_TILE + 1)])
def test_a_chain_verifies_as_the_oracle_does(block: int, vocab: int) -> None:
    for rows, seed in ((1, 0), (2, 1), (5, 2), (8, 3)):
        for temperatures in ((0.0, 0.3, 1.0, 1.7), (0.0,)):
            feeds = random_case(rows, block, vocab, seed, temperatures)
            expected = accept(**feeds)
            for sampling in {True, max(temperatures) > 0}:
                result = run(accept_session(block, vocab, sampling), feeds)
                assert accept_cases.assert_same(feeds, (result["accepted"], result["next_ids"]), expected) == 0


@pytest.mark.parametrize("uniform", [ZERO, LAST])
def test_a_chain_draws_from_the_ends(uniform: float) -> None:
    """Full acceptance, and residuals that are nothing but rounding."""
    feeds = random_case(4, 2, 100, 5, (1.0,), lengths=[2, 1, 2, 0])
    feeds["logits"][:, :7], feeds["logits"][:, 90:] = -np.inf, -np.inf
    feeds["uniforms"][..., 1] = uniform
    result = run(accept_session(2, 100, True), feeds)
    assert accept_cases.assert_same(feeds, (result["accepted"], result["next_ids"]), accept(**feeds)) == 0


def test_a_chain_gives_no_token_for_a_line_without_a_finite_maximum() -> None:
    endings = set()
    for seed in range(20):
        feeds = accept_cases.spoiled_case(5, 2, ACCEPT_TILE + 5, seed)
        for sampling in (True, False):
            if not sampling:
                feeds["temperature"][:] = 0
            result = run(accept_session(2, ACCEPT_TILE + 5, sampling), feeds)
            assert accept_cases.assert_same(feeds, (result["accepted"], result["next_ids"]), accept(**feeds)) == 0
            endings |= set(result["next_ids"].tolist())
    assert BROKEN in endings
    assert len(endings) > 2


def test_the_chain_is_plugin_nodes_with_their_namespace() -> None:
    for sampling, ops in ((True, ["MarkovScores", "MarkovPick"]), (False, ["MarkovScoresGreedy", "MarkovPickGreedy"])):
        model = one_head_model(head_of("vanilla", 2, 4), 50)
        lower_markov_heads(model, CAPABILITY, sampling)
        nodes = [node for node in model.graph if node.domain == "dspark"]
        assert [node.op_type for node in nodes] == ops * 2
        for node in nodes:
            assert node.attributes["plugin_namespace"].as_string() == "dspark"
            assert node.attributes["compute_capability"].as_int() == CAPABILITY
        assert {key[1] for key in model.functions} == set(ops)


def test_a_greedy_chain_writes_nothing_as_wide_as_the_vocabulary() -> None:
    head, vocab = head_of("gated", 3, 4), 100
    model = one_head_model(head, vocab)
    lower_markov_heads(model, CAPABILITY, sampling=False)
    assert [value.name for value in model.graph.outputs] == ["draft_ids", "confidence_logits"]
    from dspark_plugins.markov_head.steps import NODES

    attributes = {"vocab": vocab, "block": 3, "rank": 4, "hidden": 10, "step": 0, "gather": 0}
    called = {node.op_type for node in model.graph}
    for node in NODES:
        if node.op in called:
            shapes = node.shapes(attributes, 2)
            assert all(vocab not in shapes[name] for name in node.outputs)


def test_what_uses_a_lost_output_is_refused() -> None:
    model = one_head_model(head_of("vanilla", 1, 4), 50)
    head = next(node for node in model.graph if node.op_type == "MarkovHead")
    model.graph.append(ir.node("Identity", [head.outputs[2]]))
    with pytest.raises(ValueError, match="draft_logits does not exist any more"):
        lower_markov_heads(model, CAPABILITY, sampling=False)


def test_a_head_without_steps_stays() -> None:
    head: Any = MarkovHeadSpec("none", 2, 0, 10, True, False)
    model = one_head_model(head, 50)
    assert lower_markov_heads(model, CAPABILITY, sampling=True) == 0
    assert [node.op_type for node in model.graph if node.domain == "dspark"] == ["MarkovHead"]
    one_node.session(model)


def test_unknown_sizes_are_refused() -> None:
    model = build_accept_graph(50, 2)
    model.graph.inputs[0].shape = ir.Shape(["K", "V"])
    with pytest.raises(ValueError, match="vocabulary's size"):
        lower_accept_nodes(model, CAPABILITY, sampling=True)


@pytest.mark.parametrize("temperatures", [[0.0, 0.0], [0.0, 0.9]])
def test_an_exported_drafter_runs_lowered(tiny_bundle: Path, temperatures: list[float]) -> None:
    """The graph that `export` writes, its ops as function bodies: tokens and confidences of both forms are equal."""
    path, sampling = tiny_bundle / "onnx" / "drafter.onnx", max(temperatures) > 0
    exported, lowered = (ir.external_data.load_to_model(ir.load(path)) for _ in range(2))
    assert lower_markov_heads(lowered, CAPABILITY, sampling) == 1
    assert not any(key[1] == "MarkovHead" for key in lowered.functions)
    feeds = drafter_feeds(exported, temperatures)
    whole, chain = (run(one_node.session(model), feeds) for model in (exported, lowered))
    assert whole.keys() - chain.keys() == (set() if sampling else {"draft_logits"})
    np.testing.assert_array_equal(chain["draft_ids"], whole["draft_ids"])
    for name in chain.keys() - {"draft_ids"}:
        comparison = compare("MarkovHead", chain[name], whole[name])
        assert comparison.passed, (name, comparison)


def drafter_feeds(model: ir.Model, temperatures: list[float]) -> dict[str, np.ndarray]:
    """Two rows, with 3 and 2 features behind an empty cache."""
    random, sizes = np.random.default_rng(0), {"M": 5, "R": 2, "C": 64}
    known = {"feature_lengths": [3, 2], "used": [0, 0], "anchor_ids": [5, 7]}
    feeds: dict[str, np.ndarray] = {name: np.array(values, np.int64) for name, values in known.items()}
    feeds["temperature"] = np.array(temperatures, np.float32)
    for value in model.graph.inputs:
        assert value.name is not None
        if value.name not in feeds:
            assert value.shape is not None
            shape = [size if isinstance(size, int) else sizes[str(size.value)] for size in value.shape]
            wide = random.random(shape) if value.name == "uniforms" else random.standard_normal(shape)
            feeds[value.name] = (wide * (not value.name.startswith(("key", "value")))).astype(np.float32)
    return feeds
