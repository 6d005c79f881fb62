"""Both ops as ONNX local functions in standard ops. One function a number of terms: names tell them apart."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx_ir as ir
from onnxscript import OpBuilder, build_function

from dspark_plugins.domain import DOMAIN, DOMAIN_VERSION, OPSET
from dspark_plugins.int8_linear.contract import (
    INT8_LINEAR,
    LEVELS,
    QUANTIZE_ROWS,
    REMAINDER,
    SMALLEST_SCALE,
    ZERO_POINT,
)

Rows = tuple[ir.Value, ir.Value]
OURS = {"_domain": DOMAIN, "_version": DOMAIN_VERSION}


def quantize_rows_function(terms: int = 1) -> ir.Function:
    """The body of `dspark::QuantizeRows`."""
    return _function(op_name(QUANTIZE_ROWS, terms), partial(_quantize_rows, terms), "x")


def int8_linear_function(terms: int = 1) -> ir.Function:
    """The body of `dspark::Int8Linear`."""
    inputs = ("quantized", "scale", "weight", "weight_scale")
    return _function(op_name(INT8_LINEAR, terms), partial(_int8_linear, terms), *inputs)


def op_name(name: str, terms: int) -> str:
    """The op's name in a graph: a model has one function a name, so two terms need a name of their own."""
    return name if terms == 1 else f"{name}{terms}"


def call_quantize_rows(op: OpBuilder, x: ir.Value, terms: int = 1) -> Rows:
    """A node that calls `quantize_rows_function`, which has to be in the model."""
    quantized, scale = getattr(op, op_name(QUANTIZE_ROWS, terms))(x, _outputs=2, **OURS)
    return quantized, scale


def call_int8_linear(op: OpBuilder, rows: Rows, weight: ir.Value, weight_scale: ir.Value, terms: int = 1) -> ir.Value:
    """A node that calls `int8_linear_function`, which has to be in the model."""
    y: ir.Value = getattr(op, op_name(INT8_LINEAR, terms))(*rows, weight, weight_scale, **OURS)
    return y


def _quantize_rows(terms: int, op: OpBuilder, x: ir.Value) -> Rows:
    largest = op.ReduceMax(op.Abs(x), [-1], keepdims=1)
    scale = op.Max(op.Mul(largest, float(np.float32(1 / LEVELS))), SMALLEST_SCALE)
    rounded = op.Round(op.Div(x, scale))
    if terms == 2:
        finer = op.Mul(scale, float(np.float32(1 / REMAINDER)))
        rest = op.Round(op.Div(op.Sub(x, op.Mul(rounded, scale)), finer))
        rounded, scale = op.Concat(rounded, rest, axis=0), op.Concat(scale, finer, axis=0)
    return op.Cast(op.Add(rounded, float(ZERO_POINT)), to=ir.DataType.UINT8), scale


def _int8_linear(
    terms: int, op: OpBuilder, quantized: ir.Value, scale: ir.Value, weight: ir.Value, weight_scale: ir.Value
) -> ir.Value:
    zero_point = op.Constant(value=ir.tensor(np.array(ZERO_POINT, np.uint8)))
    total = op.Cast(op.MatMulInteger(quantized, weight, zero_point), to=ir.DataType.FLOAT)
    products = op.Mul(op.Mul(total, weight_scale), scale)
    if terms == 1:
        return products
    first, second = op.Split(products, axis=0, num_outputs=2, _outputs=2)
    return op.Add(first, second)


def _function(name: str, trace: Callable[..., object], *inputs: str) -> ir.Function:
    return build_function(
        trace, [ir.Value(name=name) for name in inputs], domain=DOMAIN, name=name, opset_imports={"": OPSET}
    )
