"""`dspark::ExpandVocabulary` as an ONNX local function in standard ops."""

from __future__ import annotations

import onnx_ir as ir
from onnxscript import OpBuilder, build_function

from dspark_plugins.domain import DOMAIN, OPSET
from dspark_plugins.draft_vocabulary.contract import EXPAND


def expand_function() -> ir.Function:
    """The function body; logits [R, g, Vd]."""
    return build_function(
        _body, [ir.Value(name="logits"), ir.Value(name="place")], domain=DOMAIN, name=EXPAND, opset_imports={"": OPSET}
    )


def _body(op: OpBuilder, logits: ir.Value, place: ir.Value) -> ir.Value:
    impossible = op.Expand(float("-inf"), op.Concat(op.Shape(logits, start=0, end=2), [1], axis=0))
    return op.Gather(op.Concat(logits, impossible, axis=2), place, axis=2)
