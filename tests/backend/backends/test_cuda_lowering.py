"""Graphs for ONNX Runtime's CUDA provider: a kernel for every node, lengths instead of masks, rounding as elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dspark_engines.backends import Engines
from dspark_engines.backends.onnxruntime_cuda.lowering import MASK, lower_for_cuda
from dspark_engines.backends.options import EnginePrecision
from dspark_engines.backends.padded.engines import PaddedDraftEngine, PaddedVerifyEngine
from dspark_engines.backends.padded.shapes import role_shapes
from dspark_engines.bundle import Bundle, Role
from tests.backend.backends.test_engines import build, draft, verify
from tests.support import tiny
from tests.support.cuda_kernels import KERNELS
from tests.support.lowered import SOURCES, OrtRunner

NONPAD = 6
NAMES = {
    onnx.TensorProto.FLOAT: "f32",
    onnx.TensorProto.FLOAT16: "f16",
    onnx.TensorProto.BFLOAT16: "bf16",
    onnx.TensorProto.INT64: "i64",
    onnx.TensorProto.INT32: "i32",
    onnx.TensorProto.BOOL: "bool",
}
KINDS = [("llama", "none"), ("llama", "vanilla"), ("llama", "gated"), ("qwen3", "rnn")]


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind[1])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    architecture, kind = request.param
    return build(tmp_path_factory.mktemp(kind), 2, architecture=architecture, kind=kind)


def lowered(bundle: Bundle, role: Role, precision: str, *, greedy: bool = False) -> ir.Model:
    limits, block = bundle.manifest.limits, bundle.manifest.drafter.block_size
    capacity, source = role_shapes(role, limits, block).capacity, bundle.path / "onnx" / dict(SOURCES)[role]
    return lower_for_cuda(source, role, capacity, precision, greedy=greedy)  # type: ignore[arg-type]


def rounded_engines(bundle: Bundle, folder: Path, precision: EnginePrecision) -> Engines:
    """Both engines on the CPU; half precision is float32, rounded where the graph says."""
    limits, block = bundle.manifest.limits, bundle.manifest.drafter.block_size
    runners = [OrtRunner(lowered(bundle, role, precision), folder, limits.slots) for role, _ in SOURCES]
    shapes = [role_shapes(role, limits, block) for role, _ in SOURCES]
    return Engines(PaddedVerifyEngine(runners[0], shapes[0]), PaddedDraftEngine(runners[1], shapes[1]))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("greedy", [False, True])
def test_every_node_has_a_kernel(bundle: Bundle, precision: str, greedy: bool) -> None:
    """None would run on the CPU for want of one, in silence and with copies before and behind it."""
    for role, _ in SOURCES:
        model = onnx.shape_inference.infer_shapes(ir.to_proto(lowered(bundle, role, precision, greedy=greedy)))
        graph = model.graph
        values = [*graph.value_info, *graph.input, *graph.output]
        types = {value.name: value.type.tensor_type.elem_type for value in values}
        types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":  # becomes an initializer
                types[node.output[0]] = node.attribute[0].t.data_type
                continue
            assert (node.domain, node.op_type in KERNELS) == ("", True), node.op_type
            schema = onnx.defs.get_schema(node.op_type, max_inclusive_version=24)
            for index, name in enumerate(node.input):
                constraint = schema.inputs[min(index, len(schema.inputs) - 1)].type_str
                if name and constraint in KERNELS[node.op_type]:
                    assert NAMES[types[name]] in KERNELS[node.op_type][constraint].split(), (node.op_type, name)


def test_lengths_say_what_may_be_seen(bundle: Bundle) -> None:
    for role, _ in SOURCES:
        model = lowered(bundle, role, "bf16")
        attention = [node for node in model.graph if node.op_type == "Attention"]
        assert attention
        for node in attention:
            lengths = node.inputs[NONPAD]
            assert lengths is not None
            assert (node.inputs[MASK], lengths.name) == (None, "visible")
            assert ("is_causal" in node.attributes) == (role == "verify")
        assert {value.dtype for value in model.graph.inputs if "_cache" in str(value.name)} == {ir.DataType.BFLOAT16}


def test_sizes_are_not_computed_between_kernels(bundle: Bundle) -> None:
    """Where the vocabulary's size is known, nothing asks for it; only the number of rows is left to ask for."""
    asked = {}
    for role, _ in SOURCES:
        nodes = list(lowered(bundle, role, "bf16").graph)
        asked[role] = [node.inputs[0].name for node in nodes if node.op_type == "Shape" and node.inputs[0] is not None]
        assert not {"Size", "Mod", "Neg", "CastLike", "If"} & {node.op_type for node in nodes}
    assert asked == {"verify": [], "draft": ["anchor_ids"]}


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_stays_near(tmp_path: Path, precision: EnginePrecision) -> None:
    """Rounded where the graph says, against the same steps in float32, for a row and for its neighbour."""
    bundle = build(tmp_path, 2, kind="rnn")
    error = 2.0**-10 if precision == "fp16" else 2.0**-7
    texts = [np.random.default_rng(row).integers(0, tiny.VOCAB, 4).tolist() for row in range(2)]
    outputs = []
    for each in (precision, "fp32"):
        engines = rounded_engines(bundle, tmp_path, each)  # type: ignore[arg-type]
        rows = verify(engines, [engines.verify.new_slot() for _ in texts], texts, [0, 0])
        features = [features for _, features in outputs[0][0]] if outputs else [features for _, features in rows]
        drafts = draft(engines, [engines.draft.new_slot() for _ in texts], features, [0, 0], [0, 2])
        outputs.append((rows, drafts))
    (half, half_drafts), (full, full_drafts) = outputs
    pairs = [pair for rows in zip(half, full, strict=True) for pair in zip(*rows, strict=True)]
    pairs += [(ours[1], exact[1]) for ours, exact in zip(half_drafts, full_drafts, strict=True)]
    for ours, exact in pairs:
        difference = np.abs(ours - exact).max() / np.abs(exact).max()
        assert 0 < difference < 6 * error, "nothing was rounded, or too much"
