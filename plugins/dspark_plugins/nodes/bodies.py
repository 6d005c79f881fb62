"""Standard-operator counterparts of what the kernels share, for the function bodies that ONNX Runtime runs.

Values are [R, ...]; attributes are read by reference, so that one function serves all nodes of its op.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
from onnxscript import OpBuilder, build_function

from dspark_plugins.domain import DOMAIN, OPSET
from dspark_plugins.nodes.node import PluginNode

END = 2**62
Body = Any
"""A function of (op, inputs by name) to the outputs in the node's order; the bodies of one table differ in inputs."""


def node_function(node: PluginNode, body: Body) -> ir.Function:
    """`body` as the model-local function of `node`'s op."""
    return build_function(
        lambda op, *values: body(op, **dict(zip(node.inputs, values, strict=True))),
        [ir.Value(name=name) for name in node.inputs],
        domain=DOMAIN,
        name=node.op,
        attributes=[ir.Attr(name, ir.AttributeType.INT, None) for name in node.attributes],
        opset_imports={"": OPSET},
    )


def attribute(op: OpBuilder, name: str) -> ir.Value:
    """The calling node's integer attribute, an int64 scalar."""
    return op.Constant(value_int=ir.RefAttr("value_int", name, ir.AttributeType.INT))


def hot(op: OpBuilder, temperature: ir.Value) -> ir.Value:
    """[R]: the divisor of a row's logits, 1 where nothing is drawn."""
    return op.Where(op.Greater(temperature, 0.0), temperature, 1.0)


def finite(op: OpBuilder, maximum: ir.Value) -> ir.Value:
    """A maximum that may be subtracted: -inf becomes 0."""
    return op.Where(op.Equal(maximum, float("-inf")), 0.0, maximum)


def without_nan(op: OpBuilder, logits: ir.Value) -> ir.Value:
    """NaN becomes +inf, which a maximum is sure to find."""
    return op.Where(op.Less(logits, float("inf")), logits, float("inf"))


def is_number(op: OpBuilder, maximum: ir.Value) -> ir.Value:
    """Whether a line's maximum is finite."""
    return op.And(op.Less(maximum, float("inf")), op.Greater(maximum, float("-inf")))


def tiled(op: OpBuilder, values: ir.Value, tile: int, filler: float) -> ir.Value:
    """[..., V] as [..., n, tile], filled up."""
    width = op.Shape(values, start=-1)
    short = op.Mod(op.Neg(width), [tile])
    padded = op.Pad(values, op.Concat([0], short, axis=0), filler, [-1])
    return op.Reshape(padded, op.Concat(op.Shape(values, start=0, end=-1), [-1, tile], axis=0))


def peaks(op: OpBuilder, tiles: ir.Value, tile: int) -> tuple[ir.Value, ir.Value]:
    """[..., n] each: a tile's maximum, and the first token that has it, int32."""
    count = op.Squeeze(op.Shape(tiles, start=-2, end=-1), [0])
    starts = op.Mul(op.Range(0, count, 1), tile)
    first = op.Add(op.ArgMax(tiles, axis=-1, keepdims=0), starts)
    return op.ReduceMax(tiles, [-1], keepdims=0), op.Cast(first, to=ir.DataType.INT32)


def exponentials(op: OpBuilder, values: ir.Value, maximum: ir.Value, heat: ir.Value) -> ir.Value:
    """exp((values - maximum) / heat)."""
    return op.Exp(op.Div(op.Sub(values, finite(op, maximum)), heat))


def tile_sums(op: OpBuilder, tiles: ir.Value, maximum: ir.Value, heat: ir.Value) -> ir.Value:
    """[..., n]: the sum of exp((logit - maximum) / temperature) over each tile; heat broadcasts over [..., n, tile]."""
    return op.ReduceSum(exponentials(op, tiles, op.Unsqueeze(maximum, [-1]), heat), [-1], keepdims=0)


def best_of_tiles(op: OpBuilder, maxima: ir.Value, arguments: ir.Value) -> ir.Value:
    """[...]: the token of the first tile that holds the maximum, int64."""
    tile = op.ArgMax(maxima, axis=-1, keepdims=1)
    return op.Cast(op.Squeeze(op.GatherElements(arguments, tile, axis=-1), [-1]), to=ir.DataType.INT64)


def double(op: OpBuilder, value: ir.Value) -> ir.Value:
    """The value in float64."""
    return op.Cast(value, to=ir.DataType.DOUBLE)


def first_above(op: OpBuilder, weights: ir.Value, threshold: ir.Value) -> tuple[ir.Value, ir.Value]:
    """[R, 1] each from float64 weights [R, n]: the first index whose cumulative weight exceeds the threshold, and the
    weight before it; the last index with a weight where rounding leaves none above.
    """
    some = op.Greater(weights, op.CastLike(0.0, weights))
    reached = op.Cast(op.And(op.Greater(op.CumSum(weights, 1), threshold), some), to=ir.DataType.INT64)
    last = op.ArgMax(op.Cast(some, to=ir.DataType.INT64), axis=1, select_last_index=1)
    found = op.Greater(op.ReduceMax(reached, [1]), 0)
    index = op.Where(found, op.ArgMax(reached, axis=1), op.Mul(last, op.ReduceMax(op.Cast(some, to=7), [1])))
    indices = op.Range(0, op.Squeeze(op.Shape(weights, start=1, end=2), [0]), 1)
    before = op.Where(op.Less(op.Unsqueeze(indices, [0]), index), weights, op.CastLike(0.0, weights))
    return index, op.ReduceSum(before, [1])


def drawn(
    op: OpBuilder, masses: ir.Value, inside: Callable[[ir.Value], ir.Value], uniform: ir.Value, tile: int
) -> ir.Value:
    """[R] tokens: the tile that uniform [R, 1] falls into by masses [R, n], then the token in it by inside(tile)."""
    wide = double(op, masses)
    threshold = op.Mul(double(op, uniform), op.ReduceSum(wide, [1]))
    chosen, before = first_above(op, wide, threshold)
    offset, _ = first_above(op, double(op, inside(chosen)), op.Sub(threshold, before))
    return op.Squeeze(op.Add(op.Mul(chosen, tile), offset), [1])
