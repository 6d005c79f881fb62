"""A model with one custom op in it, and what it computes in ONNX Runtime: the op's function body under test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from dspark_engines.backends.onnxruntime.loader import onnxruntime
from dspark_engines.backends.onnxruntime.self_check import cpu_settings
from dspark_export.graphs.writer import GraphWriter

Arrays = Mapping[str, np.ndarray]
Shapes = Mapping[str, Sequence[int | str]]
INTEGERS = {"anchor_ids", "row_lengths", "used", "draft_ids", "vocabulary", "place"}


def one_node_model(function: ir.Function, attributes: Mapping[str, Any], inputs: Shapes, outputs: Shapes) -> ir.Model:
    """A graph of one call of `function`; names decide what is int64, the rest is float32."""
    w = GraphWriter("one_node")
    values = [w.input(name, shape, dtype(name)) for name, shape in inputs.items()]
    results = w.op.call(function, *values, _outputs=[f"node.{name}" for name in outputs], **attributes)
    results = list(results) if isinstance(results, Sequence) else [results]
    results = [w.op.Identity(results[0]), *results[1:]]  # in real graphs other nodes follow the first output
    for value, (name, shape) in zip(results, outputs.items(), strict=True):
        w.output(value, name, shape, dtype(name))
    return w.model()


def dtype(name: str) -> ir.DataType:
    return ir.DataType.INT64 if name in INTEGERS else ir.DataType.FLOAT


def session(model: ir.Model | Path) -> onnxruntime.InferenceSession:
    """The model, checked and opened; nothing is lowered or fused by us."""
    proto = onnx.load(model) if isinstance(model, Path) else ir.to_proto(model)
    if not isinstance(model, Path):
        onnx.checker.check_model(proto, full_check=True)
    return onnxruntime.InferenceSession(proto.SerializeToString(), cpu_settings(1), providers=["CPUExecutionProvider"])


def run(opened: onnxruntime.InferenceSession, feeds: Arrays) -> dict[str, np.ndarray]:
    """All outputs by name."""
    names = [value.name for value in opened.get_outputs()]
    return dict(zip(names, opened.run(None, dict(feeds)), strict=True))
