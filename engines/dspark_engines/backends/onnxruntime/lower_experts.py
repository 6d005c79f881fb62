"""A mixture of experts for ONNX Runtime's CPU provider: only the experts that a step needs.

A loop over the chosen experts. Each is sliced off its stack (a copy: an expert is read twice and written once), takes
the tokens that chose it, and adds to their sums. Weights lie output by output: of a few rows ONNX Runtime's product
with them as they are takes half the time of one with their transpose, which it packs anew every time. A step of one
token costs k experts, not all E, and a long one each expert once. In what order a token's experts are summed depends on
their numbers alone, not on its neighbours.
"""

from __future__ import annotations

import onnx_ir as ir
from onnxscript import OpBuilder

from dspark_engines.backends.onnxruntime.rewriting import Lowering
from dspark_plugins.expert_mlp import ExpertMlpSpec
from dspark_plugins.expert_mlp.function import bend, read_node, route

BOOL, FLOAT, INT64 = ir.DataType.BOOL, ir.DataType.FLOAT, ir.DataType.INT64


def lower_experts(low: Lowering, node: ir.Node) -> None:
    """Replace a `dspark::ExpertMlp` node."""
    spec = read_node(node)
    x, shares, chosen, *weights = (value for value in node.inputs if value is not None)
    op = low.op
    by_expert = op.Transpose(route(op, shares, chosen, weights[0]), perm=[1, 0])
    needed = op.Squeeze(op.NonZero(op.ReduceMax(op.Abs(by_expert), [1], keepdims=0)), [0])
    state = _Step(spec, x, by_expert, needed, weights)
    body = _body(low, f"{node.outputs[0].name}.turn", state)
    count = op.Squeeze(op.Shape(needed), [0])
    y = op.Loop(count, None, op.Mul(x, 0.0), body=body)
    y.shape, y.type = node.outputs[0].shape, node.outputs[0].type
    low.replace(node, y)


def _body(low: Lowering, name: str, step: _Step) -> ir.Graph:
    """The loop's body: turn and condition, and the sum that goes from turn to turn."""
    low.builder.push_module(name)  # it counts its values from zero too: keep their names apart
    rows = step.x.shape
    body: ir.Graph = low.builder.subgraph(
        step.add,
        [_value(f"{name}.i", INT64, []), _value(f"{name}.more", BOOL, []), _value(f"{name}.sum", FLOAT, rows)],
        [_value(f"{name}.go", BOOL, []), _value(f"{name}.added", FLOAT, rows)],
    )
    low.builder.pop_module()
    return body


def _value(name: str, dtype: ir.DataType, shape: ir.Shape | list[int] | None) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=None if shape is None else ir.Shape(shape))


class _Step:
    """What one turn of the loop does, reading the values around it."""

    def __init__(
        self, spec: ExpertMlpSpec, x: ir.Value, by_expert: ir.Value, needed: ir.Value, weights: list[ir.Value]
    ) -> None:
        self.spec, self.x, self.by_expert, self.needed, self.weights = spec, x, by_expert, needed, weights

    def add(self, op: OpBuilder, i: ir.Value, more: ir.Value, total: ir.Value) -> tuple[ir.Value, ir.Value]:
        expert = op.Gather(self.needed, i)
        share = op.Gather(self.by_expert, expert)
        rows = op.Transpose(op.NonZero(share), perm=[1, 0])
        gate_up, down, *biases = (op.Gather(stack, expert) for stack in self.weights)
        both = op.Gemm(op.GatherND(self.x, rows), gate_up, *biases[:1], transB=1)
        each = op.Gemm(bend(op, self.spec, both), down, *biases[1:], transB=1)
        weighted = op.Mul(each, op.Unsqueeze(op.GatherND(share, rows), [1]))
        return op.Identity(more), op.ScatterND(total, rows, weighted, reduction="add")
