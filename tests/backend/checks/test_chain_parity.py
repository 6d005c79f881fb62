"""Draft graphs of chains against their torch oracle: ragged rows, greedy and sampled ones, rounds that roll back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dspark_engines.backends.padded.lowering import lower_graph
from dspark_export.checks import compare
from dspark_export.graphs import build_chain_graph, build_drafter_graph, build_target_graph, save_graph
from dspark_export.reference_graph import ReferenceGraph
from dspark_plugins.markov_head.lowering import lower_markov_heads
from tests.support import chains, tiny
from tests.unit.graphs.test_chain_loop import CASES

torch = pytest.importorskip("torch")
from dspark_export import parity  # noqa: E402
from dspark_export.checkpoints.expected import drafter_tensors, target_tensors  # noqa: E402

ROUNDS = ([7, 1], [2, 4], [3, 5], [1, 1])
"""Features of two rows."""
TEMPERATURES = np.array([0.0, 0.9], np.float32)
GEMMA = tiny.with_layers(
    chains.spec().shape,
    qk_norm=True,
    scale=1.0,
    activation="gelu_tanh",
    sandwich=True,
    value_norm=True,
    shared_values=True,
    layer_scalar=True,
)
SINGLE = {
    "eagle3: a single draft": replace(chains.spec(), block_size=1),
    "mtp: more stages than drafts": replace(chains.spec("mtp", stages=3), block_size=2),
    "eagle3: Gemma 4's layer": replace(chains.spec(), shape=GEMMA, embedding_scale=7.0, logit_softcap=30.0),
    "mtp: a window": replace(chains.spec("mtp"), shape=tiny.with_layers(chains.spec("mtp").shape, window=3)),
}
LEFT_OUT = ("eagle3", "mtp", "eagle3: the state is normed")
"""What other cases have in them."""


@pytest.mark.parametrize("case", [*(case for case in CASES if case not in LEFT_OUT), *SINGLE])
def test_the_graph_is_the_oracle(case: str, tmp_path: Path) -> None:
    spec = chains.with_tables({**CASES, **SINGLE}[case])
    arrays, random = chains.tensors_of(spec), np.random.default_rng(0)
    save_graph(build_chain_graph(spec, tiny.weights_of(arrays), {}, 64), tmp_path / "drafter.onnx")
    graph = ReferenceGraph(tmp_path / "drafter.onnx", 2, 48)
    module: Any = parity.ChainModule(spec, arrays, np.empty(0), np.empty(0))
    caches, used = [module.new_cache(), module.new_cache()], np.zeros(2, np.int64)
    for lengths in map(np.array, ROUNDS):
        total, ends = lengths.sum(), np.cumsum(lengths)
        features = random.standard_normal((total, spec.feature_size), np.float32)
        next_ids, uniforms = random.integers(0, tiny.VOCAB, total), random.random((2, spec.draft_length), np.float32)
        out = graph.step(
            features=features,
            feature_lengths=lengths,
            used=used,
            anchor_ids=next_ids[ends - 1],
            temperature=TEMPERATURES,
            uniforms=uniforms,
            next_ids=next_ids,
        )
        for row, part in enumerate(map(slice, ends - lengths, ends)):
            with torch.inference_mode():
                tensors = torch.from_numpy(features[part]), torch.from_numpy(next_ids[part])
                wanted = module.draft(caches[row], *tensors, float(TEMPERATURES[row]), uniforms[row])
            assert out["draft_ids"][row].tolist() == wanted.ids.tolist()
            assert compare("drafter.draft_logits", out["draft_logits"][row], wanted.logits.numpy())
            assert compare("drafter.draft_scores", out["draft_scores"][row], wanted.scores.numpy())
            assert np.isposinf(out["confidence_logits"][row]).all()
        used += lengths


def test_scores_know_nothing_of_what_was_drawn(tmp_path: Path) -> None:
    """Of the first position they are the same whatever is drawn there; and blocks have them as chains do."""
    drafter = tiny.drafter_spec("vanilla", confidence=False)
    for spec, build in ((chains.spec(), build_chain_graph), (drafter, build_drafter_graph)):
        own = chains.with_tables(spec)
        arrays = tiny.random_tensors(drafter_tensors(own)) | tiny.random_tensors(
            dict.fromkeys(("embed_tokens.weight", "lm_head.weight"), (tiny.VOCAB, tiny.HIDDEN)), seed=5
        )
        save_graph(build(own, tiny.weights_of(arrays), {}, 64), tmp_path / "drafter.onnx")
        outputs = [_one_step(tmp_path / "drafter.onnx", own, uniform) for uniform in (0.01, 0.99)]
        assert outputs[0]["draft_ids"][0, 0] != outputs[1]["draft_ids"][0, 0]
        np.testing.assert_array_equal(outputs[0]["draft_scores"][0, 0], outputs[1]["draft_scores"][0, 0])
        for out in outputs:
            logits = out["draft_logits"][0].astype(np.float64)
            likely = np.sort(logits - np.log(np.exp(logits).sum(-1, keepdims=True)))
            wanted = np.stack([likely[:, -1], likely[:, -1] - likely[:, -2]], axis=1)
            np.testing.assert_allclose(out["draft_scores"][0], wanted, atol=1e-4)


def _one_step(path: Path, spec: Any, uniform: float) -> dict[str, Any]:
    text = {} if spec.chain is None else {"next_ids": np.array([9, 8, 7])}
    features = np.random.default_rng(3).standard_normal((3, spec.feature_size), np.float32)
    return ReferenceGraph(path, 1, 48).step(
        features=features,
        feature_lengths=np.array([3]),
        used=np.zeros(1, np.int64),
        anchor_ids=np.array([7]),
        temperature=np.ones(1, np.float32),
        uniforms=np.full((1, spec.draft_length), uniform, np.float32),
        **text,
    )


@pytest.mark.parametrize("taps", [(tiny.LAYERS,), (-1, 1, tiny.LAYERS)])
def test_the_last_tap_lies_behind_the_norm(taps: tuple[int, ...], tmp_path: Path) -> None:
    """As transformers' last hidden state does, for every token; and the logits are the same numbers with it."""
    spec = tiny.target_spec()
    weights = tiny.weights_of(tiny.random_tensors(target_tensors(spec)))
    tokens, outputs = np.arange(4, 14), []
    for given in (taps, (0,)):
        save_graph(build_target_graph(spec, weights, given, 32), tmp_path / "target.onnx")
        graph = ReferenceGraph(tmp_path / "target.onnx", 1, 32)
        feeds = {"token_ids": tokens, "row_lengths": np.array([10]), "used": np.array([0])}
        outputs.append(graph.step(**feeds, logit_rows=np.array([3, 9])))
    np.testing.assert_array_equal(outputs[0]["logits"], outputs[1]["logits"])
    module = parity.TargetModule(spec, weights)
    with torch.inference_mode():
        _, states = module(torch.from_numpy(tokens)[None])
        wanted = module.features(states, taps)[0].numpy()
        np.testing.assert_array_equal(wanted[:, -tiny.HIDDEN :], module.norm(states[-1])[0].numpy())
    assert compare("target.features", outputs[0]["features"], wanted)
    with pytest.raises(ValueError, match="outside"):
        module.features(states, (tiny.LAYERS - 1,))


@pytest.mark.parametrize("greedy", [False, True])
def test_padded_graphs_leave_scores_out(greedy: bool, tmp_path: Path) -> None:
    """No GPU engine says them, and a greedy chain of kernels has no logits that they could come from."""
    spec = chains.with_tables(tiny.drafter_spec("vanilla", confidence=False))
    tables = dict.fromkeys(("embed_tokens.weight", "lm_head.weight"), (tiny.VOCAB, tiny.HIDDEN))
    weights = tiny.weights_of(tiny.random_tensors(drafter_tensors(spec) | tables))
    save_graph(build_drafter_graph(spec, weights, {}, 64), tmp_path / "drafter.onnx")

    def kernels(model: Any) -> set[str]:
        lower_markov_heads(model, 90, sampling=not greedy)
        return {node.op_type for node in model.graph if node.op_type.startswith("Markov")}

    model = lower_graph(tmp_path / "drafter.onnx", 64, "fp32", custom_ops=kernels, greedy=greedy)
    assert "draft_scores" not in [value.name for value in model.graph.outputs]
    assert "TopK" not in [node.op_type for node in model.graph]
