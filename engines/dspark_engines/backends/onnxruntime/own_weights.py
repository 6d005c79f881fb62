"""A weight of its own for every integer product.

Where ONNX Runtime needs its precise kernels (self_check.py) it writes a node's int8 weight anew as uint8, under a name
made from the weight's: two nodes with one weight, such as the steps of a Markov head, would get the same name, and the
graph would not load. So the later ones read the same bytes under names of their own.
"""

from __future__ import annotations

import onnx_ir as ir

PRODUCTS = {"MatMulInteger", "MatMulIntegerToFloat"}
WEIGHT = 1
"""Index of the weight among a product's inputs."""


def give_own_weights(graph: ir.Graph) -> None:
    """Let no two integer products of `graph` read one initializer; external data is shared, not copied."""
    seen: dict[ir.Value, int] = {}
    for node in list(graph.all_nodes()):  # branches too: they see the graph's initializers
        if node.op_type not in PRODUCTS:
            continue
        weight = node.inputs[WEIGHT]
        if weight is None or not weight.is_initializer():
            continue
        seen[weight] = seen.get(weight, 0) + 1
        if seen[weight] > 1:
            node.replace_input_with(WEIGHT, _alias(graph, weight, seen[weight]))


def _alias(graph: ir.Graph, weight: ir.Value, number: int) -> ir.Value:
    """Another initializer of `graph` with the same content."""
    name = f"{weight.name}.{number}"
    assert weight.const_value is not None, "initializers have values"
    tensor = _renamed(weight.const_value, name)
    value = ir.Value(name=name, shape=weight.shape, type=weight.type, const_value=tensor)
    graph.register_initializer(value)
    return value


def _renamed(tensor: ir.TensorProtocol, name: str) -> ir.TensorProtocol:
    if not isinstance(tensor, ir.ExternalTensor):
        return ir.Tensor(tensor.numpy(), name=name)
    return ir.ExternalTensor(
        tensor.location,
        tensor.offset,
        tensor.length,
        tensor.dtype,
        shape=tensor.shape,
        name=name,
        base_dir=tensor.base_dir,
    )
