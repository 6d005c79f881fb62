"""Rewriting an ONNX graph in place: the one frame of every lowering and of quantisation.

The graph's nodes are taken out and put back one by one; what replaces a node is written in between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import onnx_ir as ir
from onnxscript import GraphBuilder

T = TypeVar("T")


class Rewriter:
    """One graph being rewritten; names of new values begin with `module`."""

    def __init__(self, graph: ir.Graph, module: str) -> None:
        _free_constant_names(graph, module)
        self.graph = graph
        self.builder = GraphBuilder(graph)
        self.builder.push_module(module)
        self._made: dict[str, Any] = {}

    @property
    def op(self) -> Any:
        """Writes a node: standard operators by attribute, functions by `call`."""
        return self.builder.op

    def run(self, rewrite: Callable[[ir.Node], bool]) -> int:
        """Put every node back, but those for which `rewrite` wrote something else: it then returns True.

        Returns their number.
        """
        nodes, count = list(self.graph), 0
        self.graph.remove(nodes)
        for node in nodes:
            if rewrite(node):
                count += 1
            else:
                self.graph.append(node)
        return count

    def replace(self, node: ir.Node, *values: ir.Value | None) -> None:
        """Let `values` stand for the first outputs of `node`, their names included; `node` reads nothing any more.

        None: the output is gone, from the graph's outputs too. Raises `ValueError` where somebody reads it.
        """
        for old, new in zip(node.outputs, values, strict=False):
            if new is not None:
                _hand_over(old, new)
            elif old.uses():
                raise ValueError(f"{old.name} does not exist any more, and the graph reads it")
            elif old in self.graph.outputs:
                self.graph.outputs.remove(old)
        for index in range(len(node.inputs)):
            node.replace_input_with(index, None)  # it would count as a reader of what it read

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What `make` wrote into the graph when somebody first asked for `name`."""
        if name not in self._made:
            self._made[name] = make()
        made: T = self._made[name]
        return made

    def add_functions(self, model: ir.Model) -> None:
        """Give `model` the bodies of the functions that were called."""
        for function in self.builder.functions.values():
            model.functions[function.identifier()] = function


def _hand_over(old: ir.Value, new: ir.Value) -> None:
    """Make `new` what `old` was to the graph."""
    name, shape, kind = old.name, old.shape, old.type
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    old.name = f"{name}.replaced"
    new.name, new.shape, new.type = name, shape or new.shape, kind or new.type


def _free_constant_names(graph: ir.Graph, module: str) -> None:
    """A builder names its literals const_…, counting from zero: make room beside those of whoever wrote before.

    Constants of inlined functions are nodes with such names.
    """
    values = [*graph.initializers.values(), *(value for node in graph for value in node.outputs)]
    for value in values:
        if (value.name or "").startswith("const_"):
            ir.convenience.rename_values([value], [f"before.{module}.{value.name}"])
