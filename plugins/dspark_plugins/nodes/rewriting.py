"""Replacing a custom op's node by a chain of plugin nodes, in an ONNX graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
from onnxscript import GraphBuilder

from dspark_plugins.domain import DOMAIN
from dspark_plugins.graph_rewriting import Rewriter
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
    rewriter = Rewriter(model.graph, op_type)
    writer = ChainWriter(rewriter.builder, functions, compute_capability)

    def rewrite(node: ir.Node) -> bool:
        outputs = replace(writer, node) if (node.domain, node.op_type) == (DOMAIN, op_type) else None
        if outputs is None:
            return False
        rewriter.replace(node, *(outputs.get(name) for name in output_names))
        return True

    count = rewriter.run(rewrite)
    rewriter.add_functions(model)
    if not any((node.domain, node.op_type) == (DOMAIN, op_type) for node in model.graph):
        model.functions.pop((DOMAIN, op_type, ""), None)
    return count
