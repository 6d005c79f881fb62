"""`dspark::Accept` as an ONNX local function in standard ops, for any number of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import onnx_ir as ir
from onnxscript import OpBuilder, build_function

from dspark_plugins.accept.contract import ACCEPT, BROKEN, INPUTS, OUTPUTS, RESIDUAL_FLOOR, AcceptSpec
from dspark_plugins.domain import DOMAIN, OPSET
from dspark_plugins.drawing import draw
from dspark_plugins.nodes.bodies import is_number, without_nan

Rows = Literal["either", "mixed", "greedy"]


def accept_function(spec: AcceptSpec, rows: Rows = "either") -> ir.Function:
    """The function body for `spec`; see the contract for inputs and outputs.

    With `rows` "either" an `If` spares batches of greedy rows what only sampling ones need. A captured CUDA graph
    cannot hold one: bodies for "mixed" rows do everything for every row, those for "greedy" ones read no
    draft_logits, temperature and uniforms at all.
    """
    return build_function(
        lambda op, *values: _Body(op, spec, dict(zip(INPUTS, values, strict=True))).trace(rows),
        [ir.Value(name=name) for name in INPUTS],
        domain=DOMAIN,
        name=ACCEPT,
        attributes=[ir.Attr(k, ir.AttributeType.INT, v) for k, v in spec.attributes().items()],
        opset_imports={"": OPSET},
    )


class _Body:
    """Traces one body. Nothing V wide is padded: p stays packed, and only the row that a request stops at is kept."""

    def __init__(self, op: OpBuilder, spec: AcceptSpec, inputs: dict[str, ir.Value]) -> None:
        self.op, self.block, self.inputs = op, spec.block_size, inputs
        lengths = inputs["verify_lengths"]
        self.starts = op.CumSum(op.Add(lengths, 1), 0, exclusive=1)  # [R]: a request's first packed row
        steps, ends = op.Constant(value_ints=list(range(self.block))), op.Unsqueeze(lengths, [1])
        self.verified = op.Less(steps, ends)  # [R, g]
        # Positions that are not verified look at the row of the last token, which always exists.
        self.rows = op.Add(op.Unsqueeze(self.starts, [1]), op.Min(steps, ends))  # [R, g]
        self.logits = without_nan(op, inputs["logits"])
        self.best = op.ReduceMax(self.logits, [-1])  # [K, 1]
        choices = op.ArgMax(self.logits, axis=-1, keepdims=0)
        self.choices = op.Where(op.Squeeze(is_number(op, self.best), [1]), choices, BROKEN)  # [K]
        self.agrees = op.Equal(op.Gather(self.choices, self.rows), inputs["draft_ids"])  # [R, g]

    def trace(self, rows: Rows) -> Sequence[ir.Value]:
        """(accepted, next_ids)."""
        bodies = {"either": self._either, "mixed": self._sampling, "greedy": self._greedy}
        return bodies[rows](self.op)

    def _either(self, op: OpBuilder) -> Sequence[ir.Value]:
        """An all-greedy batch pays for the arg-max alone."""
        builder = op.builder
        sampling = op.Greater(op.ReduceMax(self.inputs["temperature"], keepdims=0), 0.0)
        branches = []
        for name, body in (("sampling", self._sampling), ("greedy", self._greedy)):
            builder.push_module(name)  # a branch counts its values from zero too: keep their names apart
            branches.append(builder.subgraph(body, [], [_int64(f"{name}_{output}") for output in OUTPUTS]))
            builder.pop_module()
        return op.If(sampling, then_branch=branches[0], else_branch=branches[1], _outputs=[*OUTPUTS])

    def _greedy(self, op: OpBuilder) -> Sequence[ir.Value]:
        accepted = self._accepted(op, self.agrees)
        return accepted, op.Gather(self.choices, op.Add(self.starts, accepted))

    def _sampling(self, op: OpBuilder) -> Sequence[ir.Value]:
        hot = op.Greater(self.inputs["temperature"], 0.0)
        temperature = op.Where(hot, self.inputs["temperature"], 1.0)
        p = _softmax(op, self.logits, self.best, op.Unsqueeze(op.Gather(temperature, self._request_of(op)), [1]))
        drafts = without_nan(op, self.inputs["draft_logits"])
        best = op.ReduceMax(drafts, [-1])  # [R, g, 1]
        q = _softmax(op, drafts, best, op.Unsqueeze(temperature, [1, 2]))
        sampled = op.Unsqueeze(hot, [1])
        fair = op.And(op.Squeeze(is_number(op, best), [2]), self._stands(op, p, q))
        equal = op.And(op.Not(sampled), self.agrees)
        accepted = self._accepted(op, op.Or(op.And(sampled, fair), equal))
        stop = op.Add(self.starts, accepted)
        drawn = draw(op, self._weights(op, p, q, accepted, stop), self._uniform(op, accepted))
        choice = op.Gather(self.choices, stop)
        return accepted, op.Where(op.And(hot, op.Greater(choice, BROKEN)), drawn, choice)

    def _request_of(self, op: OpBuilder) -> ir.Value:
        """[K]: whose row a packed row is."""
        zeros = op.ConstantOfShape(op.Shape(self.inputs["logits"], start=0, end=1), value=ir.tensor([0]))
        ones = op.ConstantOfShape(op.Shape(self.starts), value=ir.tensor([1]))
        return op.Sub(op.CumSum(op.ScatterElements(zeros, self.starts, ones, axis=0), 0), 1)

    def _stands(self, op: OpBuilder, p: ir.Value, q: ir.Value) -> ir.Value:
        """[R, g]: whether the rejection test passes."""
        ids = op.Unsqueeze(self.inputs["draft_ids"], [2])
        p_x = op.GatherND(p, op.Concat(op.Unsqueeze(self.rows, [2]), ids, axis=2))
        q_x = op.Squeeze(op.GatherElements(q, ids, axis=2), [2])
        uniform = op.Slice(op.Gather(self.inputs["uniforms"], 0, axis=2), [0], [self.block], [1])
        return op.And(op.LessOrEqual(op.Mul(uniform, q_x), p_x), op.Greater(p_x, 0.0))

    def _accepted(self, op: OpBuilder, good: ir.Value) -> ir.Value:
        """[R]: good [R, g] up to the first that is not, or not verified."""
        bad = op.Not(op.And(good, self.verified))
        unbroken = op.Equal(op.CumSum(op.Cast(bad, to=ir.DataType.INT64), 1), 0)
        return op.ReduceSum(op.Cast(unbroken, to=ir.DataType.INT64), [1], keepdims=0)

    def _weights(self, op: OpBuilder, p: ir.Value, q: ir.Value, accepted: ir.Value, stop: ir.Value) -> ir.Value:
        """[R, V]: what the next token is drawn from."""
        target = op.Gather(p, stop)
        draft = op.GatherND(q, op.Unsqueeze(op.Min(accepted, self.block - 1), [1]), batch_dims=1)
        residual = op.Max(op.Sub(target, draft), 0.0)
        rejected = op.Unsqueeze(op.Less(accepted, self.inputs["verify_lengths"]), [1])
        worth = op.Greater(op.ReduceSum(residual, [1], keepdims=1), RESIDUAL_FLOOR)
        return op.Where(op.And(rejected, worth), residual, target)

    def _uniform(self, op: OpBuilder, accepted: ir.Value) -> ir.Value:
        """[R, 1]: the uniform that draws the token of the position where the row stops."""
        drawing = op.Gather(self.inputs["uniforms"], 1, axis=2)
        return op.GatherElements(drawing, op.Unsqueeze(accepted, [1]), axis=1)


def _softmax(op: OpBuilder, logits: ir.Value, best: ir.Value, temperature: ir.Value) -> ir.Value:
    """The maximum goes first: dividing first loses digits, and overflows at a tiny temperature. 0 in broken lines,
    which makes a broken p accept nothing, and a broken q leave p as it is.
    """
    shares = op.Softmax(op.Div(op.Sub(logits, best), temperature), axis=-1)
    return op.Where(is_number(op, best), shares, 0.0)


def _int64(name: str) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(ir.DataType.INT64))
