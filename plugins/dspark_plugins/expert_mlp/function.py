"""`dspark::ExpertMlp` as an ONNX local function in standard ops: every token through every expert.

Right on every backend, and without a shape that depends on data. A backend whose machine feels E/k times the work
replaces the node; `bend` is what both forms do between the two products.
"""

from __future__ import annotations

import onnx_ir as ir
from onnxscript import OpBuilder, build_function

from dspark_plugins.domain import DOMAIN, OPSET
from dspark_plugins.expert_mlp.contract import EXPERT_MLP, ExpertMlpSpec


def expert_mlp_function(spec: ExpertMlpSpec, overload: str = "") -> ir.Function:
    """The function body for `spec`; a graph with several specs tells them apart by `overload`."""
    kinds = {int: ir.AttributeType.INT, float: ir.AttributeType.FLOAT, str: ir.AttributeType.STRING}
    attributes = [ir.Attr(name, kinds[type(value)], value) for name, value in spec.attributes().items()]
    function = build_function(
        lambda op, *inputs: _body(op, spec, *inputs),
        [ir.Value(name=name) for name in spec.inputs()],
        domain=DOMAIN,
        name=EXPERT_MLP,
        attributes=attributes,
        opset_imports={"": OPSET},
    )
    function.overload = overload
    return function


def read_node(node: ir.Node) -> ExpertMlpSpec:
    """The spec of a node of this op."""
    values = {name: attribute.value for name, attribute in node.attributes.items()}
    return ExpertMlpSpec(**values | {"biased": bool(values["biased"])})


def bend(op: OpBuilder, spec: ExpertMlpSpec, both: ir.Value) -> ir.Value:
    """[..., 2I] to [..., I]: gate and up brought together."""
    gate, up = op.Split(both, axis=-1, num_outputs=2, _outputs=2)
    if spec.limit:
        gate, up = op.Min(gate, spec.limit), op.Clip(up, -spec.limit, spec.limit)
    if spec.activation == "gelu_tanh":
        bent = op.Gelu(gate, approximate="tanh")
    else:
        bent = op.Mul(gate, op.Sigmoid(gate if spec.alpha == 1 else op.Mul(gate, spec.alpha)))
    result: ir.Value = op.Mul(bent, op.Add(up, spec.up_offset) if spec.up_offset else up)
    return result


def route(op: OpBuilder, shares: ir.Value, chosen: ir.Value, gate_up: ir.Value) -> ir.Value:
    """Each expert's share of each token, [N, E]; 0 where it was not chosen."""
    size = op.Concat(op.Shape(shares, start=0, end=1), op.Shape(gate_up, start=0, end=1), axis=0)
    return op.ScatterElements(op.Expand(0.0, size), chosen, shares, axis=1)


def _body(op: OpBuilder, spec: ExpertMlpSpec, *inputs: ir.Value) -> ir.Value:
    x, shares, chosen, gate_up, down, *biases = inputs
    both = op.MatMul(op.Unsqueeze(x, [0]), op.Transpose(gate_up, perm=[0, 2, 1]))
    both = op.Add(both, op.Unsqueeze(biases[0], [1])) if biases else both
    each = op.MatMul(bend(op, spec, both), op.Transpose(down, perm=[0, 2, 1]))
    each = op.Add(each, op.Unsqueeze(biases[1], [1])) if biases else each
    share = op.Unsqueeze(op.Transpose(route(op, shares, chosen, gate_up), perm=[1, 0]), [2])
    total: ir.Value = op.ReduceSum(op.Mul(each, share), [0], keepdims=0)
    return total
