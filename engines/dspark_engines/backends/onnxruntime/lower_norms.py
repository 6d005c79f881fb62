"""Norms of a residual stream for ONNX Runtime's CPU provider: one node for the sum and its norm."""

from __future__ import annotations

import onnx_ir as ir

from dspark_engines.backends.onnxruntime.rewriting import MICROSOFT, Lowering

NORM = "RMSNormalization"


def lower_residual_sum(low: Lowering, node: ir.Node) -> bool:
    """Replace an Add of two streams and the norm of their sum by one node; False where the sum is not normed."""
    (total,), norm = node.outputs, _norm(node.outputs[0])
    if norm is None or any(x is None or x.is_initializer() for x in node.inputs):
        return False
    normed, mean, deviation, stream = low.op.SkipSimplifiedLayerNormalization(
        *node.inputs,
        norm.inputs[1],
        epsilon=norm.attributes["epsilon"].as_float(),
        _domain=MICROSOFT,
        _version=1,
        _outputs=4,
    )
    mean.name = deviation.name = ""  # not asked for
    for old, new in ((norm.outputs[0], normed), (total, stream)):
        new.shape, new.type = old.shape, old.type
    low.replace(norm, normed)
    low.replace(node, stream)
    return True


def lower_norm(_: Lowering, node: ir.Node) -> bool:
    """Drop a norm that `lower_residual_sum` has made already; False for any other."""
    normed = node.outputs[0]
    return not normed.uses() and not normed.is_graph_output()


def _norm(total: ir.Value) -> ir.Node | None:
    """The norm that reads a sum, if one does."""
    readers = [node for node, index in total.uses() if node.op_type == NORM and not node.domain and index == 0]
    return readers[0] if len(readers) == 1 else None
