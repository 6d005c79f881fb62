"""The plugins through NVIDIA's own Python layer: its validators, and the calls that TensorRT's builder makes.

What runs here is the code of `tensorrt-cu13-bindings`, over a stand-in for the native library (see
`support/tensorrt_stand_in.py`). No engine is built and no kernel runs: that needs TensorRT and a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import pytest

from dspark_engines.backends.options import EnginePrecision
from dspark_engines.backends.tensorrt.building.plugin_nodes import plugin_nodes
from dspark_plugins.accept.steps import NODES as ACCEPT_NODES
from dspark_plugins.markov_head.steps import FEW_ROWS
from dspark_plugins.markov_head.steps import NODES as MARKOV_NODES
from dspark_plugins.nodes import PluginNode
from tests.backend.backends.test_engines import build
from tests.support import tiny
from tests.support.lowered import lowered_graph
from tests.support.tensorrt_stand_in import missing
from tests.support.triton_worker import Worker, WorkerError

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"not installed: {', '.join(missing())} (extra [plugin-check])")

NODES = {node.op: node for node in (*MARKOV_NODES, *ACCEPT_NODES)}
BUILDS = "tests.support.plugin_builds"
B, G, V, R, H, K = 3, 5, 1000, 24, 40, 11
SHAPES: dict[str, tuple[int, ...]] = {
    **{"projected": (B, G, R), "w1": (V, R), "mix_weight": (R, H + R), "previous": (B,), "state": (B, R)},
    **{"base_logits": (B, G, V), "table": (V, R), "index": (B,), "w2": (V, R), "temperature": (B,)},
    **{"tile_max": (B, 32), "tile_arg": (B, 32), "tile_sum": (B, 32), "uniforms": (B, G)},
    **{"draft_ids": (B, G), "draft_logits": (B, G, V), "verify_lengths": (B,), "accepted": (B,), "best_ids": (B,)},
    **{"stop": (B, 4), "target_mass": (B, 1), "residual_mass": (B, 1)},
    **dict.fromkeys(("target_max", "target_arg", "target_sum", "draft_max", "draft_sum"), (B, G + 1, 1)),
}
ATTRIBUTES = {"vocab": V, "block": G, "rank": R, "hidden": H, "step": 2, "gather": 1, "compute_capability": 90}
TYPES = {"fp32": "FLOAT", "i32": "INT32", "i64": "INT64", "weight": "FLOAT"}


def inputs_of(node: PluginNode, weights: str = "FLOAT") -> list[tuple[tuple[int, ...], str]]:
    shapes = SHAPES | {"logits": (B, V) if node in MARKOV_NODES else (K, V)}
    types = TYPES | {"weight": weights}
    return [(shapes[name], types[kind]) for name, kind in node.inputs.items()]


def attributes_of(node: PluginNode) -> dict[str, int]:
    return {name: ATTRIBUTES[name] for name in (*node.attributes, "compute_capability")}


def test_the_validators_pass_every_plugin(compiler: Worker) -> None:
    assert compiler.call(f"{BUILDS}:registered") == {
        f"dspark::{op}": (list(node.inputs), [*node.attributes, "compute_capability"], len(node.outputs))
        for op, node in NODES.items()
    }


@pytest.mark.parametrize(
    ("kind", "message"), [("register", "does not have a type annotation"), ("aot_impl", "does not match")]
)
def test_the_validators_are_awake(compiler: Worker, kind: str, message: str) -> None:
    assert message in compiler.call(f"{BUILDS}:refuse_without_rewriting", kind)


@pytest.mark.parametrize("op", NODES)
def test_a_builder_gets_kernel_and_launch(compiler: Worker, op: str) -> None:
    node = NODES[op]
    built = compiler.call(f"{BUILDS}:build", op, inputs_of(node), attributes_of(node))
    shapes = node.shapes(ATTRIBUTES, B)
    assert built["types"] == [TYPES[kind] for kind in node.outputs.values()]
    assert built["shapes"] == [shapes[name] for name in node.outputs]
    assert built["integers"] == list(node.values(ATTRIBUTES, B).values())
    launch = built["launch"]
    grid = compiler.call(f"{BUILDS}:expected_grid", op, ATTRIBUTES, B, B)
    assert (launch["grid_x"], launch["grid_y"], launch["grid_z"]) == grid
    assert f".reqntid {launch['block_x']}" in built["ptx"]
    assert (launch["block_y"], launch["block_z"]) == (1, 1)
    assert 0 <= launch["shared_mem"] <= 48 * 1024
    assert built["kernel"] == node.kernel.split(":")[1]
    passed = ["u32" if name in node.integers else "u64" for name in node.parameters()]
    assert built["parameters"] == passed


@pytest.mark.parametrize(("most_rows", "programs"), [(FEW_ROWS, 1), (FEW_ROWS + 1, 1), (200, 1)])
def test_the_upper_end_of_a_profile_chooses_the_kernel(compiler: Worker, most_rows: int, programs: int) -> None:
    """A context of few rows under a profile that goes far launches the kernel for many."""
    node, attributes = NODES["MarkovScoresGreedy"], attributes_of(NODES["MarkovScoresGreedy"])
    built = compiler.call(f"{BUILDS}:build", node.op, inputs_of(node), attributes, most_rows)
    grid = compiler.call(f"{BUILDS}:expected_grid", node.op, ATTRIBUTES, B, most_rows)
    assert (built["launch"]["grid_x"], built["launch"]["grid_y"]) == grid[:2] == (16, programs)
    matrix_product = most_rows > FEW_ROWS
    assert (built["launch"]["shared_mem"] > 4096) == matrix_product


def test_few_rows_of_half_precision_make_a_product(compiler: Worker) -> None:
    """One row never does; several do where tensor cores take both factors, which float32 would wait for."""
    node, attributes = NODES["MarkovScoresGreedy"], attributes_of(NODES["MarkovScoresGreedy"])
    shared = {
        (weights, rows): compiler.call(f"{BUILDS}:build", node.op, inputs_of(node, weights), attributes, rows)[
            "launch"
        ]["shared_mem"]
        for weights in ("FLOAT", "BF16")
        for rows in (1, 2)
    }
    assert {case for case, size in shared.items() if size > 4096} == {("BF16", 2)}


@pytest.mark.parametrize("weights", ["HALF", "BF16"])
def test_weights_may_be_half_precision(compiler: Worker, weights: str) -> None:
    for op in ("MarkovScores", "MarkovMixRnn"):
        node = NODES[op]
        built = compiler.call(f"{BUILDS}:build", op, inputs_of(node, weights), attributes_of(node))
        assert built["types"] == [TYPES[kind] for kind in node.outputs.values()]


@pytest.mark.parametrize(
    ("op", "name", "kind"),
    [("MarkovScores", "w2", "INT32"), ("MarkovPick", "logits", "HALF"), ("AcceptPrefix", "draft_ids", "INT32")],
)
def test_other_types_are_refused_by_name(compiler: Worker, op: str, name: str, kind: str) -> None:
    node: Any = NODES[op]
    inputs = inputs_of(node)
    at = list(node.inputs).index(name)
    inputs[at] = (inputs[at][0], kind)
    with pytest.raises(WorkerError, match=f"dspark::{op}: input {name} is DataType.{kind}"):
        compiler.call(f"{BUILDS}:build", op, inputs, attributes_of(node))


ONNX_TYPES = {"FLOAT": "FLOAT", "FLOAT16": "HALF", "BFLOAT16": "BF16", "INT32": "INT32", "INT64": "INT64"}


@pytest.mark.parametrize(
    ("kind", "precision", "greedy"),
    [("vanilla", "fp32", False), ("vanilla", "bf16", True), ("gated", "fp16", False), ("rnn", "bf16", False)],
)
def test_a_builder_takes_the_nodes_of_a_lowered_drafter(
    compiler: Worker, tmp_path: Path, kind: str, precision: EnginePrecision, greedy: bool
) -> None:
    """What the graph of an engine hands to plugins is what they were registered for: types, attributes, inputs."""
    bundle = build(tmp_path, 2, kind=kind)
    source = bundle.path / "onnx" / "drafter.onnx"
    model = lowered_graph(source, 64, precision, plugins_for="9.0", greedy=greedy)
    built = dict[str, int]()
    for node, inputs in handed_over(model):
        attributes = {name: value.as_int() for name, value in node.attributes.items() if name != "plugin_namespace"}
        step = attributes.get("step", 0)
        built[node.op_type] = built.get(node.op_type, 0) + 1
        if step == 0 and built[node.op_type] == 1:  # other steps have the same kernels
            compiler.call(f"{BUILDS}:build", node.op_type, inputs, attributes, 2)
    assert set(built.values()) == {tiny.BLOCK}
    assert len(built) == (2 if kind == "vanilla" else 3)


def handed_over(model: ir.Model) -> Iterator[tuple[ir.Node, list[tuple[tuple[int, ...], str]]]]:
    """Every plugin node with (shape, type) of its inputs: types as the graph has them, sizes of two rows."""
    proto = onnx.shape_inference.infer_shapes(ir.to_proto(model), check_type=True, strict_mode=True)
    known = {value.name: value.type.tensor_type.elem_type for value in [*proto.graph.value_info, *proto.graph.input]}
    known |= {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    for node in plugin_nodes(model):
        names = NODES[node.op_type].inputs
        sizes = sizes_of(node)
        types = [ONNX_TYPES[ir.DataType(known[value.name]).name] for value in node.inputs if value is not None]
        yield node, list(zip([sizes[name] for name in names], types, strict=True))


def sizes_of(node: ir.Node) -> dict[str, tuple[int, ...]]:
    """Shapes of the tiny drafter's tensors; those of weights are the graph's."""
    rows, tiles = 2, -(-tiny.VOCAB // 32)
    sizes: dict[str, tuple[int, ...]] = {"logits": (rows, tiny.VOCAB), "base_logits": (rows, tiny.BLOCK, tiny.VOCAB)}
    sizes |= {"previous": (rows,), "index": (rows,), "temperature": (rows,), "uniforms": (rows, tiny.BLOCK)}
    sizes |= dict.fromkeys(("tile_max", "tile_arg", "tile_sum"), (rows, tiles))
    rank = node.attributes["rank"].as_int() if "rank" in node.attributes else 0
    sizes |= {"state": (rows, rank), "table": (rows, rank), "projected": (rows, tiny.BLOCK, 3 * rank)}
    for name, value in zip(NODES[node.op_type].inputs, node.inputs, strict=True):
        if value is not None and value.is_initializer() and value.shape is not None:
            sizes[name] = tuple(size for size in value.shape if isinstance(size, int))
    return sizes
