"""Graphs with plugin nodes, as TensorRT gets them: what is in them, and what they compute by their bodies."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from dspark_engines.backends.options import EnginePrecision
from dspark_engines.backends.tensorrt.building.plugin_nodes import drop_bodies, plugin_nodes, plugin_ops
from dspark_engines.bundle import Bundle
from dspark_engines.errors import BackendError
from dspark_export.checks import compare, compare_engines
from dspark_export.graphs import build_accept_graph
from dspark_plugins.accept.reference import accept
from dspark_plugins.accept.steps import NODES as ACCEPT_NODES
from dspark_plugins.markov_head.steps import NODES as MARKOV_NODES
from tests.backend.backends.test_engines import build, draft
from tests.support import accept_cases, one_node, tiny
from tests.support.lowered import lowered_bundle, lowered_graph

CAPABILITY, CAPACITY = "9.0", 64
NODES = {node.op: node for node in (*MARKOV_NODES, *ACCEPT_NODES)}
SAMPLING = {
    "vanilla": ["MarkovScores", "MarkovPick"],
    "gated": ["MarkovMixGated", "MarkovScores", "MarkovPick"],
    "rnn": ["MarkovMixRnn", "MarkovScores", "MarkovPick"],
}
FLOAT16 = ir.DataType.FLOAT16


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    return {kind: build(tmp_path_factory.mktemp(kind), 3, kind=kind) for kind in ("none", *SAMPLING)}


def lowered(bundle: Bundle, precision: EnginePrecision = "fp32", greedy: bool = False) -> ir.Model:
    source = bundle.path / "onnx" / "drafter.onnx"
    return lowered_graph(source, CAPACITY, precision, plugins_for=CAPABILITY, greedy=greedy)


@pytest.mark.parametrize("greedy", [False, True])
@pytest.mark.parametrize("kind", SAMPLING)
def test_the_head_is_a_chain_of_plugins(bundles: dict[str, Bundle], kind: str, greedy: bool) -> None:
    model = lowered(bundles[kind], greedy=greedy)
    steps = [f"{op}Greedy" if greedy and "Mix" not in op else op for op in SAMPLING[kind]]
    nodes = plugin_nodes(model)
    assert [node.op_type for node in nodes] == steps * tiny.BLOCK
    for node in nodes:
        assert node.attributes["plugin_namespace"].as_string() == "dspark"
        assert node.attributes["compute_capability"].as_int() == 90
        declared = {*NODES[node.op_type].attributes, "plugin_namespace", "compute_capability"}
        assert set(node.attributes) == declared  # TensorRT refuses an attribute that the plugin did not declare
    assert plugin_ops(model) == ("MarkovHead",)
    assert {node.domain for node in model.graph if node not in nodes} == {""}
    outputs = {value.name for value in model.graph.outputs if "_cache" not in str(value.name)}
    assert outputs == {"draft_ids", "confidence_logits"} | (set() if greedy else {"draft_logits"})
    inputs = {value.name for value in model.graph.inputs}
    assert ({"temperature", "uniforms"} <= inputs) != greedy


def test_no_body_takes_precedence(bundles: dict[str, Bundle]) -> None:
    """ONNX Runtime needs the bodies; what TensorRT parses has none, so that it cannot run one in a plugin's place."""
    model = lowered(bundles["rnn"])
    assert {key[:2] for key in model.functions} == {("dspark", op) for op in SAMPLING["rnn"]}
    drop_bodies(model)
    assert not model.functions
    assert len(plugin_nodes(model)) == 3 * tiny.BLOCK


def test_what_has_no_kernels_keeps_its_body(bundles: dict[str, Bundle]) -> None:
    model = lowered(bundles["none"])
    assert (plugin_ops(model), {node.domain for node in model.graph}) == ((), {""})
    target = lowered_graph(bundles["none"].path / "onnx/target.onnx", CAPACITY, "bf16", plugins_for=CAPABILITY)
    assert (plugin_ops(target), {node.domain for node in target.graph}, len(target.functions)) == ((), {""}, 0)


def test_without_plugins_nothing_changes(bundles: dict[str, Bundle]) -> None:
    plain = lowered_graph(bundles["gated"].path / "onnx/drafter.onnx", CAPACITY, "fp32")
    assert (plugin_nodes(plain), plain.functions) == ([], {})
    assert "draft_logits" in {value.name for value in plain.graph.outputs}


@pytest.mark.parametrize("kind", SAMPLING)
def test_plugins_compute_what_the_exported_graph_says(bundles: dict[str, Bundle], tmp_path: Path, kind: str) -> None:
    results = compare_engines(bundles[kind], lowered_bundle(bundles[kind], tmp_path, plugins_for=CAPABILITY))
    assert len(results) == 20
    assert all(result.passed for result in results), results


@pytest.mark.parametrize("plugins_for", ["", CAPABILITY])
def test_greedy_engines_draft_what_others_do_at_temperature_0(
    bundles: dict[str, Bundle], tmp_path: Path, plugins_for: str
) -> None:
    (tmp_path / "greedy").mkdir()
    whole = lowered_bundle(bundles["rnn"], tmp_path, plugins_for=plugins_for)
    greedy = lowered_bundle(bundles["rnn"], tmp_path / "greedy", plugins_for=plugins_for, greedy=True)
    assert (whole.draft.samples, greedy.draft.samples) == (True, False)
    assert greedy.verify.max_rows == 3
    features = np.random.default_rng(0).standard_normal((5, bundles["rnn"].manifest.drafter.feature_size))
    parts = [features[:3].astype(np.float32), features[3:].astype(np.float32)]
    found = []
    for engines in (whole, greedy):
        slots = [engines.draft.new_slot() for _ in parts]
        found.append(draft(engines, slots, parts, [0, 0], [0, 0]))  # row 0's temperature is 0
    for (ids, confidence, unasked), (greedy_ids, greedy_confidence, none) in zip(*found, strict=True):
        np.testing.assert_array_equal(ids, greedy_ids)
        assert compare("drafter.confidence_logits", greedy_confidence, confidence).passed
        assert unasked.shape == none.shape == (tiny.BLOCK, 0)
    hot = draft(whole, [whole.draft.new_slot()], parts[:1], [0], [1])[0]
    assert hot[2].shape == (tiny.BLOCK, tiny.VOCAB)


def test_greedy_engines_are_compared_in_what_they_have(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    """`check` and `compile --compare`: every step at temperature 0, and no draft logits."""
    bundle = bundles["gated"]
    engines = lowered_bundle(bundle, tmp_path, plugins_for=CAPABILITY, greedy=True)
    results = compare_engines(bundle, engines)
    names = ("target.logits", "target.features", "drafter.draft_ids", "drafter.confidence_logits")
    decisions = ("accept.accepted", "accept.next_ids")
    assert Counter(result.what for result in results) == dict.fromkeys(names, 4) | dict.fromkeys(decisions, 1)
    assert all(result.passed for result in results), results
    pytest.importorskip("polygraphy", reason="the extra [compare] is not installed")
    from dspark_export.checks.backends import compare_one

    fresh = lowered_bundle(bundle, tmp_path, plugins_for=CAPABILITY, greedy=True)
    errors = compare_one(bundle, "onnxruntime", fresh)
    assert {error.what for error in errors} == {result.what for result in results}
    assert all(error.passed for error in errors), errors


@pytest.mark.parametrize("kind", SAMPLING)
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_kernels_get_tables_in_half_precision(
    bundles: dict[str, Bundle], tmp_path: Path, kind: str, precision: EnginePrecision
) -> None:
    model = lowered(bundles[kind], precision)
    types: Counter[tuple[str, Any]] = Counter()
    for node in plugin_nodes(model):
        for name, value in zip(NODES[node.op_type].inputs, node.inputs, strict=True):
            if value is not None and value.is_initializer():
                types[name, value.dtype] += 1
    assert {dtype for (name, dtype) in types if name in ("w1", "w2", "table")} == {FLOAT16}
    assert {dtype for (name, dtype) in types if name == "mix_weight"} <= {ir.DataType.FLOAT}
    assert {name for name, _ in types} == {"w2", *(["table"] if kind == "vanilla" else ["w1", "mix_weight"])}
    half, full = (lowered_bundle(bundles[kind], tmp_path, p, CAPABILITY) for p in (precision, "fp32"))  # type: ignore[arg-type]
    text = np.random.default_rng(2).standard_normal((4, bundles[kind].manifest.drafter.feature_size)).astype(np.float32)
    ours, exact = (draft(engines, [engines.draft.new_slot()], [text], [0], [1])[0] for engines in (half, full))
    difference = np.abs(ours[2][0] - exact[2][0]).max() / np.abs(exact[2][0]).max()
    assert 0 < difference < (2.0**-8 if precision == "fp16" else 2.0**-5)


@pytest.mark.parametrize("greedy", [False, True])
def test_accepting_is_a_chain_of_plugins(tmp_path: Path, greedy: bool) -> None:
    path = tmp_path / "verify.onnx"
    ir.save(build_accept_graph(50, 2), path)
    model = lowered_graph(path, CAPACITY, "fp32", plugins_for=CAPABILITY, greedy=greedy)
    chain = ["AcceptScan", "AcceptPrefix"]
    expected = [f"{op}Greedy" for op in chain] if greedy else [*chain, "AcceptWeigh", "AcceptDraw"]
    assert [node.op_type for node in plugin_nodes(model)] == expected
    assert plugin_ops(model) == ("Accept",)
    feeds = accept_cases.random_case(3, 2, 50, 1, (0.0,) if greedy else (0.0, 0.8, 1.0))
    session = one_node.session(model)
    read = {value.name for value in session.get_inputs()}
    result = one_node.run(session, {name: array for name, array in feeds.items() if name in read})
    assert accept_cases.assert_same(feeds, (result["accepted"], result["next_ids"]), accept(**feeds)) == 0


def test_a_graph_that_kernels_cannot_serve(tmp_path: Path) -> None:
    model = build_accept_graph(50, 2)
    model.graph.inputs[0].shape = ir.Shape(["K", "V"])
    ir.save(model, tmp_path / "verify.onnx")
    with pytest.raises(BackendError, match=r"cannot run with plugins: .*vocabulary's size") as caught:
        lowered_graph(tmp_path / "verify.onnx", CAPACITY, "fp32", plugins_for=CAPABILITY)
    assert "--no-plugins" in caught.value.hint
