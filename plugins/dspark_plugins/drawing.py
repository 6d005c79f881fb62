"""Drawing a token by inverse CDF in standard ops, in parallel over a large vocabulary."""

from __future__ import annotations

import onnx_ir as ir
from onnxscript import OpBuilder

TILE = 256  # about the square root of a vocabulary


def draw(op: OpBuilder, weights: ir.Value, uniform: ir.Value) -> ir.Value:
    """[R] from weights [R, V] and uniform [R, 1]: the tile first, then the token in it.

    One float32 sum running over the whole vocabulary would swallow the weights of its tail.
    """
    short = op.Mod(op.Neg(op.Shape(weights, start=1, end=2)), [TILE])
    tiles = op.Reshape(op.Pad(weights, op.Concat([0, 0, 0], short, axis=0)), [0, -1, TILE])  # [R, n, TILE]
    ends = op.CumSum(op.ReduceSum(tiles, [2], keepdims=0), 1)
    threshold = op.Mul(uniform, op.Slice(ends, [-1], [2**62], [1]))
    tile, before = _first_above(op, ends, threshold)
    inside = op.CumSum(op.GatherND(tiles, tile, batch_dims=1), 1)
    token, _ = _first_above(op, inside, op.Sub(threshold, before))
    return op.Squeeze(op.Add(op.Mul(tile, TILE), token), [1])


def _first_above(op: OpBuilder, cdf: ir.Value, threshold: ir.Value) -> tuple[ir.Value, ir.Value]:
    """[R, 1] each: the first index of cdf [R, n] above the threshold, and the mass before it.

    Never beyond the first index that reaches the whole sum, so that no rounding draws a token of weight zero.
    """
    below = op.And(op.LessOrEqual(cdf, threshold), op.Less(cdf, op.Slice(cdf, [-1], [2**62], [1])))
    index = op.ReduceSum(op.Cast(below, to=ir.DataType.INT64), [1], keepdims=1)
    return index, op.ReduceMax(op.Where(below, cdf, 0.0), [1], keepdims=1)
