"""An int8 bundle: engines against its exported graphs, and every token to the bit whatever shares the step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file

from dspark_engines import GenerationRequest, Generator, Runtime, RuntimeOptions, open_bundle
from dspark_engines.backends import EngineOptions, get_backend
from dspark_engines.bundle import Bundle, Limits
from dspark_engines.errors import CheckpointError
from dspark_export.bundling import BuildPlan, Silent, build_bundle
from dspark_export.checks import compare_engines
from tests.support import tiny

LIMITS, ONE = Limits(context_length=96, prefill_chunk=16, slots=8), EngineOptions(threads=1)


def build(root: Path, target: Any = None, drafter: Any = None, *, own: bool = False, **plan: Any) -> Bundle:
    """A bundle of a tiny pair; with `own` the drafter's checkpoint has an output table."""
    target_path = tiny.write_target(root / "target", target or tiny.target_spec())
    drafter_path = tiny.write_drafter(root / "drafter", drafter or tiny.drafter_spec())
    if own:
        weights = drafter_path / "model.safetensors"
        table = tiny.random_tensors({"lm_head.weight": (tiny.VOCAB, tiny.HIDDEN)}, seed=7)
        save_file(load_file(weights) | table, weights)
    made = BuildPlan(target_path, drafter_path, root / "bundle", "onnxruntime", LIMITS, **{"precision": "int8", **plan})
    build_bundle(made, Silent())
    return open_bundle(root / "bundle")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return build(tmp_path_factory.mktemp("int8"))


def types(bundle: Bundle, graph: str) -> dict[str, int]:
    """ONNX element types of the initializers."""
    model = onnx.load(bundle.file(f"onnx/{graph}.onnx"), load_external_data=False)
    return {tensor.name: tensor.data_type for tensor in model.graph.initializer}


def test_linear_layers_are_int8_and_the_rest_is_not(bundle: Bundle) -> None:
    assert bundle.manifest.precision == "int8"
    target, drafter = types(bundle, "target"), types(bundle, "drafter")
    for layer in ("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"):
        assert target[f"layers.0.{layer}.weight.int8"] == onnx.TensorProto.INT8
        assert f"layers.0.{layer}.weight" not in target
    assert target["embed_tokens.weight"] == onnx.TensorProto.FLOAT
    assert target["embed_tokens.weight.int8"] == onnx.TensorProto.INT8  # the tied head
    assert drafter["fc.weight"] == onnx.TensorProto.FLOAT
    assert drafter["confidence_head.proj.weight"] == onnx.TensorProto.FLOAT
    assert drafter["markov_head.markov_w2.weight.int8"] == onnx.TensorProto.INT8
    assert "markov_head.markov_w2.weight" not in drafter


def test_no_two_products_share_a_weight(bundle: Bundle) -> None:
    """ONNX Runtime cannot rewrite shared ones for its precise kernels; the bytes are shared all the same."""
    for engine in bundle.manifest.backends[0].engines:
        model = onnx.load(bundle.file(engine.path), load_external_data=False)
        weights = [node.input[1] for node in model.graph.node if node.op_type.startswith("MatMulInteger")]
        assert weights
        assert len(weights) == len(set(weights))
    places = [[(e.key, e.value) for e in t.external_data] for t in model.graph.initializer if "markov_w2" in t.name]
    assert len(places) > len({str(place) for place in places})


@pytest.mark.parametrize(("tied", "own"), [(True, False), (False, False), (True, True)])
def test_int8_is_near_float32(tied: bool, own: bool, tmp_path: Path) -> None:
    """Both engines, with a table that is shared in every way: a few percent, where a wrong scale would be tens."""
    drafter = tiny.drafter_spec()
    int8 = build(tmp_path / "a", tiny.target_spec(tied=tied), drafter, own=own)
    fp32 = build(tmp_path / "b", tiny.target_spec(tied=tied), drafter, own=own, precision="fp32")
    random = np.random.default_rng(0)
    tokens, features = random.integers(0, tiny.VOCAB, 24), None
    results = []
    for bundle in (int8, fp32):
        with get_backend("onnxruntime").open(bundle, ONE) as engines:
            slot, draft_slot = engines.verify.new_slot(), engines.draft.new_slot()
            out = engines.verify.step([slot], tokens, np.array([24]), np.array([0]), np.arange(24))
            logits, features = out.logits.copy(), out.features.copy() if features is None else features
            zeros = np.zeros(1, np.float32)
            drafts = engines.draft.step(
                [draft_slot],
                features,
                np.array([24]),
                np.array([0]),
                tokens[:1],
                zeros,
                np.zeros((1, tiny.BLOCK), np.float32),
            )
            results.append((logits, drafts.draft_logits[:, 0].copy(), drafts.confidence_logits[:, 0].copy()))
    for ours, expected in list(zip(*results, strict=True))[:2]:
        assert np.linalg.norm(ours - expected) < 0.06 * np.linalg.norm(expected)
    assert abs(results[0][2] - results[1][2]) < 0.15  # one confidence logit, near 0


@pytest.mark.parametrize("kind", ["none", "vanilla", "gated", "rnn"])
def test_engines_compute_what_the_graphs_say(kind: str, tmp_path: Path) -> None:
    """Untied and tied, Qwen's norms and Llama's; with every kind of head."""
    target = tiny.target_spec("qwen3" if kind in ("none", "rnn") else "llama", tied=kind in ("none", "gated"))
    made = build(tmp_path, target, tiny.drafter_spec(kind))
    with get_backend("onnxruntime").open(made, ONE) as engines:
        comparisons = compare_engines(made, engines)
    assert all(c.passed for c in comparisons), [c for c in comparisons if not c.passed]


def test_threads_change_no_bit(bundle: Bundle) -> None:
    """A request may move from engines with all cores to engines with half of them."""
    tokens, outputs = np.random.default_rng(0).integers(4, 100, 24), []
    for threads in (1, 2, 3):
        with get_backend("onnxruntime").open(bundle, EngineOptions(threads)) as engines:
            out = engines.verify.step([engines.verify.new_slot()], tokens, np.array([24]), np.array([0]), np.arange(24))
            outputs.append((out.logits.tobytes(), out.features.tobytes()))
    assert outputs[0] == outputs[1] == outputs[2]


def test_a_step_is_the_same_to_the_bit_whatever_shares_it(bundle: Bundle) -> None:
    """One row's logits and features: token by token, in blocks, in chunks, and beside up to seven others."""
    random = np.random.default_rng(0)
    tokens = random.integers(0, tiny.VOCAB, 60)

    def run(chunks: list[int], company: int) -> tuple[np.ndarray, np.ndarray]:
        with get_backend("onnxruntime").open(bundle, ONE) as engines:
            slots = [engines.verify.new_slot() for _ in range(company + 1)]
            used, logits, features = 0, [], []
            for count in chunks:
                packed = np.concatenate([tokens[used : used + count], random.integers(0, tiny.VOCAB, 3 * company)])
                lengths, before = [count] + [3] * company, [used] + [9] * company
                out = engines.verify.step(slots, packed, np.array(lengths), np.array(before), np.arange(count))
                logits.append(out.logits.copy())
                features.append(out.features[:count].copy())
                used += count
            return np.concatenate(logits), np.concatenate(features)

    logits, features = run([1] * 60, 0)
    for chunks, company in (([60], 0), ([20] + [8] * 5, 0), ([7, 1, 2, 50], 1), ([1] * 60, 3), ([30, 1, 29], 7)):
        other_logits, other_features = run(chunks, company)
        np.testing.assert_array_equal(other_logits, logits)
        np.testing.assert_array_equal(other_features, features)


@pytest.mark.parametrize("max_batch", [1, 8])
def test_greedy_output_needs_no_tie_rule(bundle: Bundle, max_batch: int) -> None:
    random = np.random.default_rng(1)
    requests = [
        GenerationRequest(random.integers(4, 100, random.integers(1, 50)).tolist(), 30, bool(n % 4)) for n in range(24)
    ]
    with get_backend("onnxruntime").open(bundle, ONE) as engines:
        generator = Generator(engines, bundle.manifest)
        alone = [generator.run(replace(request, speculate=False)).token_ids for request in requests]
    with Runtime(bundle, RuntimeOptions(engines=ONE, max_batch=max_batch, speculation="on")) as runtime:
        assert [result.token_ids for result in runtime.generate(requests)] == alone


def test_kept_layers_stay_in_float32(tmp_path: Path) -> None:
    keep = (
        "target.layers.1.mlp.down_proj",
        "target.embed_tokens",
        "drafter.layers.0.self_attn.o_proj",
        "drafter.markov_head.markov_w2",
    )
    made = build(tmp_path, keep=keep)
    target, drafter = types(made, "target"), types(made, "drafter")
    assert "layers.1.mlp.down_proj.weight" in target
    assert "layers.0.mlp.down_proj.weight.int8" in target
    assert "embed_tokens.weight.int8" not in target
    assert "layers.0.self_attn.o_proj.weight" in drafter
    assert "markov_head.markov_w2.weight" in drafter
    with get_backend("onnxruntime").open(made, ONE) as engines:
        assert all(c.passed for c in compare_engines(made, engines))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda weight: weight.fill(np.nan), r"layers\.2\.mlp\.down_proj\.weight holds (nan|inf) at"),
        (
            lambda weight: weight.__setitem__((0, 0), np.inf),
            r"layers\.2\.mlp\.down_proj\.weight holds (nan|inf) at",
        ),
        (lambda weight: weight.fill(0), r"every channel of layers\.2\.mlp\.down_proj\.weight is zero"),
    ],
    ids=["nan", "inf", "zero"],
)
def test_weights_that_cannot_be_quantised_are_refused(tmp_path: Path, spoil: Any, message: str) -> None:
    paths = tiny.write_target(tmp_path / "target"), tiny.write_drafter(tmp_path / "drafter")
    file = paths[0] / "model.safetensors"
    tensors = load_file(file)
    spoil(next(array for name, array in tensors.items() if name.endswith("layers.2.mlp.down_proj.weight")))
    save_file(tensors, file)
    output = tmp_path / "bundle"
    with pytest.raises(CheckpointError, match=message.replace("LAYER", r"layers\.2\.mlp\.down_proj\.weight")):
        build_bundle(BuildPlan(*paths, output, "onnxruntime", LIMITS, precision="int8"), Silent())
    assert not output.exists()


def test_an_unknown_layer_to_keep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"target\.layers\.9\.mlp\.down_proj: the target has no such layer"):
        build(tmp_path, keep=("target.layers.9.mlp.down_proj",))
    with pytest.raises(CheckpointError, match=r"verifier\.x"):
        build(tmp_path / "other", keep=("verifier.x",))
