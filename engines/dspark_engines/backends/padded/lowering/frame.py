"""A graph being lowered: its new inputs, values that every layer shares, node replacement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import onnx_ir as ir
from onnxscript import GraphBuilder

T = TypeVar("T")
INT64 = ir.DataType.INT64


class Frame:
    """The graph's nodes are taken out and put back one by one; lowered ops are written in between.

    Index inputs that the host computes (see `packing`) take the place of row lengths.
    """

    def __init__(self, graph: ir.Graph) -> None:
        _free_constant_names(graph)
        self.graph = graph
        self.builder = GraphBuilder(graph)
        self.builder.push_module("lowered")
        self.op = self.builder.op
        self._made: dict[str, Any] = {}

    def run(self, lower: Callable[[ir.Node], bool]) -> None:
        """Put every node back, or what `lower` wrote instead of it (it then returns True)."""
        nodes = list(self.graph)
        self.graph.remove(nodes)
        for node in nodes:
            if not lower(node):
                self.graph.append(node)

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What `make` wrote into the graph when the first layer asked for `name`."""
        if name not in self._made:
            self._made[name] = make()
        made: T = self._made[name]
        return made

    def input(self, name: str, shape: Sequence[int | str]) -> ir.Value:
        """The int64 graph input called `name`, declared by whoever asks first."""
        return self.once(f"input {name}", lambda: self._declare(name, shape))

    def drop_input(self, name: str) -> None:
        """Remove a graph input that nothing reads any more."""
        value = next(value for value in self.graph.inputs if value.name == name)
        assert not value.uses(), f"{name} is still read"
        self.graph.inputs.remove(value)

    def replace(self, node: ir.Node, outputs: Sequence[ir.Value]) -> None:
        """Let everyone who reads `node`'s outputs read these, graph outputs included, and the node nothing."""
        for old, new in zip(node.outputs, outputs, strict=True):
            if old.is_graph_output():
                new.name, new.shape, new.type = old.name, old.shape, old.type
                self.graph.outputs[self.graph.outputs.index(old)] = new
            ir.convenience.replace_all_uses_with(old, new)
        for index in range(len(node.inputs)):
            node.replace_input_with(index, None)

    def _declare(self, name: str, shape: Sequence[int | str]) -> ir.Value:
        known = next((value for value in self.graph.inputs if value.name == name), None)
        if known is not None:
            return known
        value = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(INT64))
        self.graph.inputs.append(value)
        return value


def _free_constant_names(graph: ir.Graph) -> None:
    """A builder names its literals const_…, counting from zero: make room beside the exporter's."""
    for name, value in list(graph.initializers.items()):
        if name.startswith("const_"):
            ir.convenience.rename_values([value], [f"exported.{name}"])
