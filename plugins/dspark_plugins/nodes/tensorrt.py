"""A plugin node registered with TensorRT as a quickly deployable plugin, compiled ahead of time.

TensorRT calls what is registered here while it builds an engine, and keeps the kernel's PTX in it: a host that runs the
engine needs neither Python plugins nor triton. Needs `tensorrt` (10.9 or newer) and triton.
"""

from __future__ import annotations

import inspect
import types as types_module
from collections.abc import Sequence
from typing import Any

from dspark_plugins.domain import DOMAIN
from dspark_plugins.nodes.compiling import compile_node
from dspark_plugins.nodes.node import WEIGHT, WEIGHT_TYPES, PluginNode
from dspark_plugins.nodes.rewriting import COMPUTE_CAPABILITY

POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD
DATA_TYPES = {"fp32": "FLOAT", "fp16": "HALF", "bf16": "BF16", "i32": "INT32", "i64": "INT64"}


def plugin_name(node: PluginNode) -> str:
    """What TensorRT's registry knows the node by."""
    return f"{DOMAIN}::{node.op}"


def register(nodes: Sequence[PluginNode]) -> None:
    """Register the nodes that are not registered yet. Raises `ImportError` without tensorrt or triton."""
    import tensorrt.plugin
    import triton  # noqa: F401  (its absence shall be known now, not in the middle of a build)

    registry = tensorrt.plugin._lib.QDP_REGISTRY
    for node in nodes:
        if plugin_name(node) not in registry:
            plugin = _Plugin(node, tensorrt)
            tensorrt.plugin.register(plugin_name(node))(plugin.describe())
            tensorrt.plugin.aot_impl(plugin_name(node))(plugin.implement())


class _Plugin:
    """TensorRT reads functions' signatures, so they are given the node's."""

    def __init__(self, node: PluginNode, tensorrt: Any) -> None:
        self.node, self.trt, self.qdp = node, tensorrt, tensorrt.plugin
        self.attributes = (*node.attributes, COMPUTE_CAPABILITY)
        self.tensors = [self._parameter(name, self.qdp.TensorDesc) for name in node.inputs]
        self.integers = [self._parameter(name, int) for name in self.attributes]

    def describe(self) -> Any:
        """The function that gives the outputs' types and shapes."""
        node, desc = self.node, self.qdp.TensorDesc

        def describe(*tensors: Any, **attributes: int) -> Any:
            by_name = {**dict(zip(node.inputs, tensors, strict=False)), **attributes}
            self._types([by_name[name] for name in node.inputs])
            shapes = node.shapes(by_name, by_name[node.rows_of].shape_expr[0])
            outputs = tuple(self._output(shapes[name], kind) for name, kind in node.outputs.items())
            return outputs if len(outputs) > 1 else outputs[0]

        answer = _tuple_of(*[desc] * len(node.outputs)) if len(node.outputs) > 1 else desc
        return _signed(describe, [*self.tensors, *self.integers], answer)

    def implement(self) -> Any:
        """The function that gives the kernel, its launch and its integers."""
        node, qdp = self.node, self.qdp

        def implement(*values: Any) -> Any:
            tensors = values[: len(node.inputs)]
            attributes = dict(zip(self.attributes, values[len(node.inputs) : -2], strict=True))
            at = list(node.inputs).index(node.rows_of)
            most, rows = _most_rows(tensors[at]), tensors[at].shape_expr[0]
            capability = attributes[COMPUTE_CAPABILITY]
            kernel = compile_node(node, attributes, capability, most, self._types(tensors))
            grid = node.grid(attributes, rows, qdp.cdiv, node.constants(attributes, most))
            launch = qdp.KernelLaunchParams(*grid, block_x=kernel.threads, shared_mem=kernel.shared)
            passed = node.values(attributes, rows).values()
            extra = qdp.SymIntExprs.from_tuple(tuple(qdp.SymInt32(value) for value in passed))
            return kernel.name, kernel.ptx, launch, extra

        parameters = [*self.tensors, *self.integers]
        parameters += [self._parameter("outputs", _tuple_of(qdp.TensorDesc)), self._parameter("tactic", int)]
        return _signed(implement, parameters, _tuple_of(str, str, qdp.KernelLaunchParams, qdp.SymIntExprs))

    def _types(self, tensors: Sequence[Any]) -> dict[str, str]:
        """The inputs' types by name. Raises `ValueError` where an input has one that its kernel does not take."""
        names = {getattr(self.trt.DataType, name): ours for ours, name in DATA_TYPES.items()}
        found = {}
        for tensor, (name, kind) in zip(tensors, self.node.inputs.items(), strict=True):
            given = names.get(tensor.dtype, "")
            allowed = WEIGHT_TYPES if kind == WEIGHT else (kind,)
            if given not in allowed:
                wanted = " or ".join(allowed)
                raise ValueError(f"{plugin_name(self.node)}: input {name} is {tensor.dtype}, not {wanted}")
            found[name] = given
        return found

    def _output(self, shape: tuple[Any, ...], kind: str) -> Any:
        return self.qdp.from_shape_expr(shape, getattr(self.trt.DataType, DATA_TYPES[kind]))

    def _parameter(self, name: str, annotation: Any) -> inspect.Parameter:
        return inspect.Parameter(name, POSITIONAL, annotation=annotation)


def _most_rows(tensor: Any) -> int:
    """The upper end of the profile for the first axis."""
    shape = tensor.shape
    return int(shape.max[0] if shape.is_dynamic else shape[0])


def _tuple_of(*types: Any) -> Any:
    """tuple[types], of types that are known only now."""
    return types_module.GenericAlias(tuple, types)


def _signed(function: Any, parameters: list[inspect.Parameter], answer: Any) -> Any:
    function.__signature__ = inspect.Signature(parameters, return_annotation=answer)
    return function
