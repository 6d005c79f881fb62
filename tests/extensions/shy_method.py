"""A toy method of drafting, in one file: DSpark that is less sure of itself. Its dialect is the toy one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import onnx_ir as ir

from dspark_export.checkpoints import DrafterSpec, TargetSpec, Weights
from dspark_export.methods.dspark import DsparkMethod
from tests.extensions.npz_dialect import NpzDialect

METHOD, DIALECT = "tests.extensions.shy_method:ShyMethod", "tests.extensions.shy_method:ShyDialect"
LESS = 5.0


class ShyMethod(DsparkMethod):
    """The same drafts, with confidence logits lower by `LESS`."""

    name = "shy"

    def build_graph(self, spec: DrafterSpec, weights: Weights, shared: Mapping[str, Any], positions: int) -> ir.Model:
        model: ir.Model = super().build_graph(spec, weights, shared, positions)
        index, sure = next((i, v) for i, v in enumerate(model.graph.outputs) if v.name == "confidence_logits")
        less = ir.Value(name="less", const_value=ir.tensor([LESS], ir.DataType.FLOAT))
        less.shape, less.dtype = ir.Shape([1]), ir.DataType.FLOAT
        model.graph.register_initializer(less)
        node = ir.node("Sub", [sure, less])
        node.outputs[0].shape, node.outputs[0].dtype = sure.shape, sure.dtype
        sure.name, node.outputs[0].name = "sure", "confidence_logits"
        model.graph.append(node)
        model.graph.outputs[index] = node.outputs[0]
        return model

    def describe(self, spec: DrafterSpec) -> dict[str, Any]:
        return super().describe(spec) | {"less": LESS}


class ShyDialect(NpzDialect):
    """The toy dialect, for drafters of this method."""

    name = "shy npz"

    def _spec(self, words: Mapping[str, int], target: TargetSpec) -> DrafterSpec:
        return replace(super()._spec(words, target), method="shy")
