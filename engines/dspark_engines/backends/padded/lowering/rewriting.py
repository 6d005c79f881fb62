"""A graph being lowered to padded steps: index inputs that the host computes (see `packing`) replace row lengths."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from dspark_plugins.graph_rewriting import Rewriter

INT64 = ir.DataType.INT64


class PaddedLowering(Rewriter):
    """One graph being lowered; its new inputs are declared by who asks for them first."""

    def __init__(self, graph: ir.Graph) -> None:
        super().__init__(graph, "lowered")

    def input(self, name: str, shape: Sequence[int | str]) -> ir.Value:
        """The int64 graph input called `name`, declared by whoever asks first."""
        return self.once(f"input {name}", lambda: self._declare(name, shape))

    def drop_input(self, name: str) -> None:
        """Remove a graph input that nothing reads any more."""
        value = next(value for value in self.graph.inputs if value.name == name)
        assert not value.uses(), f"{name} is still read"
        self.graph.inputs.remove(value)

    def _declare(self, name: str, shape: Sequence[int | str]) -> ir.Value:
        known = next((value for value in self.graph.inputs if value.name == name), None)
        if known is not None:
            return known
        value = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(INT64))
        self.graph.inputs.append(value)
        return value
