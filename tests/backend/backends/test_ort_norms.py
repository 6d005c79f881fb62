"""Sums of the residual stream and their norms as one node of ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dspark_engines.backends.onnxruntime.compile import compile_graph
from dspark_engines.backends.onnxruntime.loader import onnxruntime
from dspark_export.graphs import save_graph
from dspark_export.graphs.writer import GraphWriter

WIDTH = 24


def stream(*, last: str) -> ir.Model:
    """x + y, normed, and what `last` says besides: the sum is read on, or is an output, or has an initializer in it."""
    w = GraphWriter("stream", {})
    x, y = w.input("x", ["N", WIDTH]), w.input("y", ["N", WIDTH])
    lengths = [w.input(name, ["R"], ir.DataType.INT64) for name in ("lengths", "used")]
    other = w.constant("bias", np.arange(WIDTH, dtype=np.float32)) if last == "initializer" else y
    total = w.op.Add(x, other)
    weight = w.constant("weight", np.linspace(0.5, 2.0, WIDTH, dtype=np.float32))
    normed = [w.op.RMSNormalization(total, weight, axis=-1, epsilon=1e-5) for _ in range(1 + (last == "two norms"))]
    w.output(w.op.Add(normed[-1], total) if last == "read on" else normed[-1], "normed", ["N", WIDTH])
    if last == "output":
        w.output(total, "sum", ["N", WIDTH])
    w.output(w.op.Add(w.op.Add(*lengths), y_rows(w, y)), "kept", ["R"], ir.DataType.INT64)
    return w.model()


def y_rows(w: GraphWriter, y: ir.Value) -> ir.Value:
    """Something that needs every input, so that none is dropped."""
    rows: ir.Value = w.op.Shape(y, start=0, end=1)
    return rows


def run(path: Path, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


@pytest.mark.parametrize(
    ("last", "fused"),
    [("read on", True), ("output", True), ("nothing", True), ("two norms", False), ("initializer", False)],
)
def test_a_sum_and_its_norm_are_one_node(last: str, fused: bool, tmp_path: Path) -> None:
    exported, compiled = tmp_path / "exported.onnx", tmp_path / "compiled.onnx"
    save_graph(stream(last=last), exported)
    compile_graph(exported, compiled, slots=1)
    operators = [node.op_type for node in onnx.load(compiled).graph.node]
    assert operators.count("SkipSimplifiedLayerNormalization") == fused
    assert ("RMSNormalization" in operators) == (not fused)
    random = np.random.default_rng(0)
    feeds = {name: random.standard_normal((5, WIDTH), np.float32) for name in "xy"}
    feeds |= {name: np.ones(1, np.int64) for name in ("lengths", "used")}
    expected, found = run(exported, feeds), run(compiled, feeds)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=2e-6, atol=1e-6)


def test_one_channel_that_is_huge_spoils_no_norm(tmp_path: Path) -> None:
    """Gemma 3's massive activations: squares are summed and roots taken in float32, in one node as in two."""
    exported, compiled = tmp_path / "exported.onnx", tmp_path / "compiled.onnx"
    save_graph(stream(last="read on"), exported)
    compile_graph(exported, compiled, slots=1)
    x, y = np.random.default_rng(0).standard_normal((2, 5, WIDTH), np.float32)
    x[:, 7] = (3e2, 3e4, -3e5, 3e6, -3e7)  # float16 ends at 65504, and its squares at 256
    feeds = {"x": x, "y": y} | {name: np.ones(1, np.int64) for name in ("lengths", "used")}
    total = (x + y).astype(np.float64)
    root = np.sqrt((total**2).mean(-1, keepdims=True) + 1e-5)
    expected = total / root * np.linspace(0.5, 2.0, WIDTH) + total
    np.testing.assert_allclose(run(compiled, feeds)["normed"], expected, rtol=1e-5, atol=1e-6)
