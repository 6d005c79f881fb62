"""Integer linear layers for ONNX Runtime's CPU provider: fewer nodes than the function bodies, the same numbers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dspark_engines.backends.onnxruntime.rewriting import MICROSOFT, Lowering
from dspark_plugins.int8_linear import LEVELS, REMAINDER, ZERO_POINT

LAST = [-1]
FUSED_INNER, FUSED_COLUMNS = 256, 8192
"""From these sizes on the fused kernel gains more by the passes it spares than it loses (measured with AMX)."""


def lower_quantize_rows(low: Lowering, node: ir.Node, terms: int) -> None:
    """Replace a `dspark::QuantizeRows` node [n, K]: QuantizeLinear along axis 0, its scales being the rows'.

    The contract's smallest scale is left out: a row of zeros has scale 0 then, and whatever 0 / 0 is quantised to,
    its products are multiplied by 0.
    """
    op, x = low.op, node.inputs[0]
    assert x is not None, "the contract has no optional inputs"
    scale = op.Mul(op.ReduceMax(op.Abs(x), LAST, keepdims=0), _number(low, 1 / LEVELS))
    zero_points = _zero_points(low, x, scale)
    quantized = op.QuantizeLinear(x, scale, zero_points, axis=0)
    if terms == 2:
        finer = op.Mul(scale, _number(low, 1 / REMAINDER))
        rest = op.Sub(x, op.DequantizeLinear(quantized, scale, zero_points, axis=0))
        quantized = op.Concat(quantized, op.QuantizeLinear(rest, finer, zero_points, axis=0), axis=0)
        scale = op.Concat(scale, finer, axis=0)
    low.replace(node, quantized, op.Unsqueeze(scale, LAST))


def lower_int8_linear(low: Lowering, node: ir.Node, terms: int) -> None:
    """Replace a `dspark::Int8Linear` node. The fused kernel is slower, but spares wide outputs a pass or two."""
    op, (quantized, scale, weight, weight_scale) = low.op, node.inputs
    inner, columns = _sizes(weight)
    if inner >= FUSED_INNER and columns >= FUSED_COLUMNS:
        inputs = (quantized, weight, _number(low, 1.0), weight_scale, _zero_point(low))
        scaled = op.MatMulIntegerToFloat(*inputs, _domain=MICROSOFT, _version=1)
    else:
        total = op.MatMulInteger(quantized, weight, _zero_point(low))
        scaled = op.Mul(op.Cast(total, to=ir.DataType.FLOAT), weight_scale)
    products = op.Mul(scaled, scale)
    if terms == 2:
        products = op.Add(*op.Split(products, axis=0, num_outputs=2, _outputs=2))
    products.shape, products.type = node.outputs[0].shape, node.outputs[0].type
    low.replace(node, products)


def _sizes(weight: ir.Value | None) -> tuple[int, int]:
    assert weight is not None, "the contract has no optional inputs"
    assert weight.shape is not None, "initializers have shapes"
    inner, columns = (size for size in weight.shape if isinstance(size, int))
    return inner, columns


def _zero_points(low: Lowering, x: ir.Value, scale: ir.Value) -> ir.Value:
    """The zero point once for every row of x: made once for all that have as many rows as one input of the graph."""

    def make() -> ir.Value:
        expanded: ir.Value = low.op.Expand(_zero_point(low), low.op.Shape(scale))
        return expanded

    rows = None if x.shape is None else x.shape[0]
    known = rows is not None and any(v.shape and rows in list(v.shape) for v in low.graph.inputs)
    return low.once(f"zero points {rows}", make) if known else make()


def _number(low: Lowering, value: float) -> ir.Value:
    name = f"number {value}"
    made: ir.Value = low.once(name, lambda: low.builder.initializer(ir.tensor(np.float32(value)), name))
    return made


def _zero_point(low: Lowering) -> ir.Value:
    value: ir.Value = low.once(
        "zero point", lambda: low.builder.initializer(ir.tensor(np.array(ZERO_POINT, np.uint8)), "zero_point")
    )
    return value
