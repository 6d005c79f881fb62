"""The steps of accepting as ONNX local functions in standard ops: what their kernels compute, tile by tile.

They write what the kernels leave unwritten too; nothing reads it.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
from onnxscript import OpBuilder

from dspark_plugins.accept import steps
from dspark_plugins.accept.contract import BROKEN, RESIDUAL_FLOOR
from dspark_plugins.accept.steps import TILE
from dspark_plugins.nodes import bodies

LONG = ir.DataType.INT64


def step_functions() -> dict[str, ir.Function]:
    """The body of every step by its op's name."""
    written = {
        steps.SCAN: _scan,
        steps.PREFIX: _prefix,
        steps.WEIGH: _weigh,
        steps.DRAW: _draw,
        steps.SCAN_GREEDY: _scan_greedy,
        steps.PREFIX_GREEDY: _prefix_greedy,
    }
    return {node.op: bodies.node_function(node, body) for node, body in written.items()}


def _starts(op: OpBuilder, verify_lengths: ir.Value) -> ir.Value:
    """[R]: a row's first packed line."""
    return op.CumSum(op.Add(verify_lengths, 1), 0, exclusive=1)


def _positions(op: OpBuilder) -> ir.Value:
    """0 … g."""
    return op.Range(0, op.Add(bodies.attribute(op, "block"), 1), 1)


def _lines(op: OpBuilder, verify_lengths: ir.Value) -> ir.Value:
    """[R, g+1]: the packed line of each position; those that are not verified look at the row's last."""
    ends = op.Unsqueeze(verify_lengths, [1])
    return op.Add(op.Unsqueeze(_starts(op, verify_lengths), [1]), op.Min(_positions(op), ends))


def _scan_greedy(op: OpBuilder, logits: ir.Value, verify_lengths: ir.Value) -> Sequence[ir.Value]:
    lines = op.Gather(bodies.without_nan(op, logits), _lines(op, verify_lengths))
    return bodies.peaks(op, bodies.tiled(op, lines, TILE, float("-inf")), TILE)


def _scan(
    op: OpBuilder, logits: ir.Value, draft_logits: ir.Value, verify_lengths: ir.Value, temperature: ir.Value
) -> Sequence[ir.Value]:
    heat = op.Unsqueeze(bodies.hot(op, temperature), [1, 2, 3])
    lines = op.Gather(bodies.without_nan(op, logits), _lines(op, verify_lengths))
    target = bodies.tiled(op, lines, TILE, float("-inf"))
    target_max, target_arg = bodies.peaks(op, target, TILE)
    whole = op.Concat(draft_logits, op.Slice(draft_logits, [-1], [bodies.END], [1]), axis=1)  # g+1 positions
    draft = bodies.tiled(op, bodies.without_nan(op, whole), TILE, float("-inf"))
    draft_max, _ = bodies.peaks(op, draft, TILE)
    target_sum, draft_sum = bodies.tile_sums(op, target, target_max, heat), bodies.tile_sums(op, draft, draft_max, heat)
    return [target_max, target_arg, target_sum, draft_max, draft_sum]


def _prefix_greedy(
    op: OpBuilder, draft_ids: ir.Value, verify_lengths: ir.Value, target_max: ir.Value, target_arg: ir.Value
) -> Sequence[ir.Value]:
    choices = _choices(op, target_max, target_arg)
    accepted = _accepted(op, _agreement(op, choices, draft_ids), verify_lengths)
    return [accepted, _at(op, choices, accepted)]


def _prefix(
    op: OpBuilder,
    logits: ir.Value,
    draft_ids: ir.Value,
    draft_logits: ir.Value,
    verify_lengths: ir.Value,
    temperature: ir.Value,
    uniforms: ir.Value,
    target_max: ir.Value,
    target_arg: ir.Value,
    target_sum: ir.Value,
    draft_max: ir.Value,
    draft_sum: ir.Value,
) -> Sequence[ir.Value]:
    heat = bodies.hot(op, temperature)
    p_max, p_sum = _mass(op, target_max, target_sum, heat)
    q_max, q_sum = _mass(op, draft_max, draft_sum, heat)
    tokens, block = op.Unsqueeze(draft_ids, [2]), op.Shape(draft_ids, start=1, end=2)
    lines = op.Unsqueeze(_first(op, _lines(op, verify_lengths), block), [2])
    p_logit = op.GatherND(logits, op.Concat(lines, tokens, axis=2))
    q_logit = op.Squeeze(op.GatherElements(draft_logits, tokens, axis=2), [2])
    hot = op.Unsqueeze(heat, [1])
    p = op.Div(bodies.exponentials(op, p_logit, _first(op, p_max, block), hot), _first(op, p_sum, block))
    q = op.Div(bodies.exponentials(op, q_logit, _first(op, q_max, block), hot), _first(op, q_sum, block))
    uniform = _first(op, op.Gather(uniforms, 0, axis=2), block)
    # The sums of broken lines are NaN, and no comparison with NaN holds.
    fair = op.And(op.LessOrEqual(op.Mul(uniform, q), p), op.Greater(p, 0.0))
    choices = _choices(op, target_max, target_arg)
    sampled = op.Unsqueeze(op.Greater(temperature, 0.0), [1])
    agreed = op.And(op.Not(sampled), _agreement(op, choices, draft_ids))  # no Where: ONNX Runtime has none for bool
    good = op.Or(op.And(sampled, fair), agreed)
    accepted = _accepted(op, good, verify_lengths)
    sums = op.Concat(*(op.Unsqueeze(part, [2]) for part in (p_max, p_sum, q_max, q_sum)), axis=2)
    return [accepted, _at(op, choices, accepted), _at(op, sums, accepted)]


def _choices(op: OpBuilder, target_max: ir.Value, target_arg: ir.Value) -> ir.Value:
    """[R, g+1]: every line's arg-max, or `BROKEN`."""
    known = bodies.is_number(op, op.ReduceMax(target_max, [2], keepdims=0))
    return op.Where(known, bodies.best_of_tiles(op, target_max, target_arg), BROKEN)


def _agreement(op: OpBuilder, choices: ir.Value, draft_ids: ir.Value) -> ir.Value:
    """[R, g]: whether a token is its line's arg-max."""
    return op.Equal(_first(op, choices, op.Shape(draft_ids, start=1, end=2)), draft_ids)


def _accepted(op: OpBuilder, good: ir.Value, verify_lengths: ir.Value) -> ir.Value:
    """[R]: good [R, g] up to the first that is not, or not verified."""
    steps_ = op.Range(0, op.Squeeze(op.Shape(good, start=1, end=2), [0]), 1)
    bad = op.Not(op.And(good, op.Less(op.Unsqueeze(steps_, [0]), op.Unsqueeze(verify_lengths, [1]))))
    unbroken = op.Equal(op.CumSum(op.Cast(bad, to=LONG), 1), 0)
    return op.ReduceSum(op.Cast(unbroken, to=LONG), [1], keepdims=0)


def _mass(op: OpBuilder, maxima: ir.Value, sums: ir.Value, heat: ir.Value) -> tuple[ir.Value, ir.Value]:
    """[R, g+1] each: a line's maximum, and the sum of its exponentials."""
    best = op.ReduceMax(maxima, [2])
    scaled = op.Mul(sums, bodies.exponentials(op, maxima, best, op.Unsqueeze(heat, [1, 2])))
    return op.Squeeze(best, [2]), op.ReduceSum(scaled, [2], keepdims=0)


def _first(op: OpBuilder, values: ir.Value, count: ir.Value) -> ir.Value:
    """[R, g+1] without the last position."""
    return op.Slice(values, [0], count, [1])


def _at(op: OpBuilder, values: ir.Value, position: ir.Value) -> ir.Value:
    """[R, g+1, ...] at each row's position."""
    return op.GatherND(values, op.Unsqueeze(position, [1]), batch_dims=1)


def _masses(
    op: OpBuilder,
    logits: ir.Value,
    draft_logits: ir.Value,
    verify_lengths: ir.Value,
    temperature: ir.Value,
    accepted: ir.Value,
    stop: ir.Value,
) -> tuple[ir.Value, ir.Value]:
    """[R, n, tile] each: p, and max(p - q, 0) or 0 after a full acceptance, of the line where a row stops."""
    heat = op.Unsqueeze(bodies.hot(op, temperature), [1])
    p_max, p_sum, q_max, q_sum = op.Split(stop, axis=1, num_outputs=4, _outputs=4)
    line = op.Gather(logits, op.Add(_starts(op, verify_lengths), accepted))
    p = op.Div(bodies.exponentials(op, line, p_max, heat), p_sum)
    last = op.Sub(bodies.attribute(op, "block"), 1)
    q = op.Div(bodies.exponentials(op, _at(op, draft_logits, op.Min(accepted, last)), q_max, heat), q_sum)
    rejected = op.And(op.Unsqueeze(op.Less(accepted, verify_lengths), [1]), bodies.is_number(op, q_max))
    residual = op.Where(rejected, op.Max(op.Sub(p, q), 0.0), 0.0)
    return bodies.tiled(op, p, TILE, 0.0), bodies.tiled(op, residual, TILE, 0.0)


def _weigh(op: OpBuilder, **inputs: ir.Value) -> Sequence[ir.Value]:
    return [op.ReduceSum(mass, [2], keepdims=0) for mass in _masses(op, **inputs)]


def _draw(
    op: OpBuilder,
    uniforms: ir.Value,
    best_ids: ir.Value,
    target_mass: ir.Value,
    residual_mass: ir.Value,
    **inputs: ir.Value,
) -> Sequence[ir.Value]:
    whole = op.ReduceSum(bodies.double(op, residual_mass), [1])
    rejected = op.Greater(whole, op.CastLike(RESIDUAL_FLOOR, whole))
    p, residual = _masses(op, **inputs)
    tiles = op.Where(op.Unsqueeze(rejected, [2]), residual, p)
    uniform = op.Unsqueeze(_at(op, op.Gather(uniforms, 1, axis=2), inputs["accepted"]), [1])
    token = bodies.drawn(
        op,
        op.Where(rejected, residual_mass, target_mass),
        lambda tile: op.GatherND(tiles, tile, batch_dims=1),
        uniform,
        TILE,
    )
    drawn = op.And(op.Greater(inputs["temperature"], 0.0), op.Greater(best_ids, BROKEN))
    return [op.Where(drawn, token, best_ids)]
