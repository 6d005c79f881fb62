"""Replacing a custom op's node by a chain of plugin nodes, in an ONNX graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from onnxscript import GraphBuilder

from dspark_plugins.domain import DOMAIN
from dspark_plugins.nodes.node import PluginNode

COMPUTE_CAPABILITY = "compute_capability"
"""Attribute of every plugin node: the architecture that its kernel is compiled for, 90 for sm_90."""
NAMESPACE = "plugin_namespace"
"""Attribute that makes TensorRT's parser take the plugin where the model also has a function of that name."""


@dataclass(frozen=True)
class ChainWriter:
    """Writes plugin nodes into a graph; `functions` has the function body of each op that will be called."""

    builder: GraphBuilder
    functions: Mapping[str, ir.Function]
    compute_capability: int

    @property
    def op(self) -> Any:
        """Standard operators, by attribute."""
        return self.builder.op

    def call(self, node: PluginNode, values: Mapping[str, Any], attributes: Mapping[str, int]) -> dict[str, Any]:
        """The outputs by name; `values` and `attributes` may hold more than the node takes."""
        results = self.op.call(
            self.functions[node.op],
            *(values[name] for name in node.inputs),
            _outputs=len(node.outputs),
            **{name: attributes[name] for name in node.attributes},
            **{NAMESPACE: DOMAIN, COMPUTE_CAPABILITY: self.compute_capability},
        )
        results = results if isinstance(results, Sequence) else [results]
        return dict(zip(node.outputs, results, strict=True))


def replace_nodes(
    model: ir.Model,
    op_type: str,
    output_names: Sequence[str],
    functions: Mapping[str, ir.Function],
    compute_capability: int,
    replace: Callable[[ChainWriter, ir.Node], Mapping[str, Any] | None],
) -> int:
    """Put what `replace` writes in the place of every `dspark::op_type` node; the number of nodes that it replaced.

    `replace` returns the outputs by name: without those that no longer exist, or None to keep the node. Raises
    `ValueError` where the graph still uses an output that no longer exists; as a graph output it is dropped.
    """
    graph = model.graph
    _free_constant_names(graph, op_type)
    builder = GraphBuilder(graph)
    builder.push_module(op_type)
    writer = ChainWriter(builder, functions, compute_capability)
    nodes, count = list(graph), 0
    graph.remove(nodes)
    for node in nodes:
        wanted = (node.domain, node.op_type) == (DOMAIN, op_type)
        outputs = replace(writer, node) if wanted else None
        if outputs is None:
            graph.append(node)
        else:
            count += 1
            for name, old in zip(output_names, node.outputs, strict=True):
                _hand_over(graph, f"{op_type} {node.name}: {name}", old, outputs.get(name))
            for index in range(len(node.inputs)):
                node.replace_input_with(index, None)  # it would count as a reader of what it read
    for function in builder.functions.values():
        model.functions[function.identifier()] = function
    if not any((node.domain, node.op_type) == (DOMAIN, op_type) for node in graph):
        model.functions.pop((DOMAIN, op_type, ""), None)
    return count


def _hand_over(graph: ir.Graph, label: str, old: ir.Value, new: ir.Value | None) -> None:
    """Make `new` what `old` was to the graph."""
    if new is None:
        if old.uses():
            raise ValueError(f"{label} does not exist in a greedy chain, and the graph uses it")
        if old in graph.outputs:
            graph.outputs.remove(old)
        return
    name, shape, kind = old.name, old.shape, old.type
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    old.name = f"{name}.replaced"
    new.name, new.shape, new.type = name, shape, kind


def _free_constant_names(graph: ir.Graph, op_type: str) -> None:
    """A builder names its literals const_…, counting from zero: make room beside those of whoever wrote before."""
    for name, value in list(graph.initializers.items()):
        if name.startswith("const_"):
            ir.convenience.rename_values([value], [f"before.{op_type}.{name}"])
