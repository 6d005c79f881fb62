"""The Markov head's steps as ONNX local functions in standard ops: what their kernels compute, tile by tile."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
from onnxscript import OpBuilder

from dspark_plugins.markov_head import steps
from dspark_plugins.markov_head.steps import TILE
from dspark_plugins.nodes import bodies


def step_functions() -> dict[str, ir.Function]:
    """The body of every step by its op's name."""
    written = {
        steps.MIX_GATED: _mix_gated,
        steps.MIX_RNN: _mix_rnn,
        steps.SCORES_GREEDY: _scores_greedy,
        steps.SCORES: _scores,
        steps.PICK_GREEDY: _pick_greedy,
        steps.PICK: _pick,
    }
    return {node.op: bodies.node_function(node, body) for node, body in written.items()}


def _here(op: OpBuilder, values: ir.Value) -> ir.Value:
    """[B, g, ...] at the node's step: [B, ...]."""
    return op.Gather(values, bodies.attribute(op, "step"), axis=1)


def _rows_of(op: OpBuilder, table: ir.Value, index: ir.Value) -> ir.Value:
    """Rows of a table that may be in half precision, in float32."""
    return op.Cast(op.Gather(table, index), to=ir.DataType.FLOAT)


def _mix_gated(
    op: OpBuilder, projected: ir.Value, w1: ir.Value, mix_weight: ir.Value, previous: ir.Value
) -> Sequence[ir.Value]:
    embedding = _rows_of(op, w1, previous)
    start = op.Unsqueeze(bodies.attribute(op, "hidden"), [0])
    weight = op.Slice(mix_weight, start, [bodies.END], [1])
    gate = op.Sigmoid(op.Gemm(embedding, weight, _here(op, projected), transB=1))
    return [op.Mul(gate, embedding)]


def _mix_rnn(
    op: OpBuilder, projected: ir.Value, w1: ir.Value, mix_weight: ir.Value, previous: ir.Value, state: ir.Value
) -> Sequence[ir.Value]:
    joint = op.Concat(state, _rows_of(op, w1, previous), axis=1)
    weight = op.Slice(mix_weight, [0], op.Shape(joint, start=1, end=2), [1])
    parts = op.Split(op.Gemm(joint, weight, _here(op, projected), transB=1), axis=1, num_outputs=3, _outputs=3)
    gate = op.Sigmoid(parts[0])
    fresh = op.Mul(op.Sub(1.0, gate), op.Tanh(parts[1]))
    return [op.Tanh(parts[2]), op.Add(op.Mul(gate, state), fresh)]


def _logits(op: OpBuilder, base_logits: ir.Value, table: ir.Value, index: ir.Value, w2: ir.Value) -> ir.Value:
    """[B, V] of this step."""
    rows = op.Range(0, op.Squeeze(op.Shape(index), [0]), 1)
    source = op.Where(op.Equal(bodies.attribute(op, "gather"), 1), index, rows)
    weight = op.Cast(w2, to=ir.DataType.FLOAT)
    return op.Gemm(_rows_of(op, table, source), weight, _here(op, base_logits), transB=1)


def _scores_greedy(
    op: OpBuilder, base_logits: ir.Value, table: ir.Value, index: ir.Value, w2: ir.Value
) -> Sequence[ir.Value]:
    logits = _logits(op, base_logits, table, index, w2)
    return bodies.peaks(op, bodies.tiled(op, logits, TILE, float("-inf")), TILE)


def _scores(
    op: OpBuilder, base_logits: ir.Value, table: ir.Value, index: ir.Value, w2: ir.Value, temperature: ir.Value
) -> Sequence[ir.Value]:
    logits = _logits(op, base_logits, table, index, w2)
    tiles = bodies.tiled(op, logits, TILE, float("-inf"))
    tile_max, tile_arg = bodies.peaks(op, tiles, TILE)
    heat = op.Unsqueeze(bodies.hot(op, temperature), [1, 2])
    return [logits, tile_max, tile_arg, bodies.tile_sums(op, tiles, tile_max, heat)]


def _pick_greedy(op: OpBuilder, tile_max: ir.Value, tile_arg: ir.Value) -> Sequence[ir.Value]:
    return [bodies.best_of_tiles(op, tile_max, tile_arg)]


def _pick(
    op: OpBuilder,
    logits: ir.Value,
    tile_max: ir.Value,
    tile_arg: ir.Value,
    tile_sum: ir.Value,
    temperature: ir.Value,
    uniforms: ir.Value,
) -> Sequence[ir.Value]:
    heat, best = op.Unsqueeze(bodies.hot(op, temperature), [1]), op.ReduceMax(tile_max, [1])
    masses = op.Mul(tile_sum, bodies.exponentials(op, tile_max, best, heat))
    tiles = bodies.tiled(op, logits, TILE, float("-inf"))

    def inside(tile: ir.Value) -> ir.Value:
        return bodies.exponentials(op, op.GatherND(tiles, tile, batch_dims=1), best, heat)

    token = bodies.drawn(op, masses, inside, op.Unsqueeze(_here(op, uniforms), [1]), TILE)
    return [op.Where(op.Greater(temperature, 0.0), token, bodies.best_of_tiles(op, tile_max, tile_arg))]
