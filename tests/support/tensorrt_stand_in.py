"""A module that passes for `tensorrt` where its native library is missing, so that NVIDIA's Python layer can be run.

`tensorrt-cu13-bindings` brings the whole of `tensorrt.plugin` (registration, validators, the plugin classes), and needs
`tensorrt` under it for enumerations and base classes. Nearly all of these are in `tensorrt_lean`, whose library is on
PyPI; `tensorrt_rtx` has the others. What a builder would hand to a plugin is ours: shapes and integers of known values.
"""

from __future__ import annotations

import importlib
import importlib.util
import operator
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

NEEDED = ("tensorrt_bindings", "tensorrt_lean_bindings", "tensorrt_rtx_bindings")
FROM_RTX = ("ITensor", "TensorFormat")
NAMESPACE = "dspark"


def missing() -> list[str]:
    """The modules that the stand-in lacks here."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


class Expression:
    """TensorRT's IDimensionExpr, of a known value."""

    def __init__(self, value: int) -> None:
        self.value = value

    def is_constant(self) -> bool:
        return True

    def get_constant_value(self) -> int:
        return self.value


class Expressions:
    """TensorRT's IExprBuilder over known values."""

    def __init__(self, operations: Any) -> None:
        self.operations = {
            operations.SUM: operator.add,
            operations.SUB: operator.sub,
            operations.PROD: operator.mul,
            operations.FLOOR_DIV: operator.floordiv,
            operations.CEIL_DIV: lambda a, b: -(-a // b),
            operations.MAX: max,
            operations.MIN: min,
        }

    def constant(self, value: int) -> Expression:
        return Expression(value)

    def operation(self, kind: Any, one: Expression, other: Expression) -> Expression:
        return Expression(self.operations[kind](one.value, other.value))


class DynamicTensor:
    """TensorRT's DynamicPluginTensorDesc: the first axis may be anything up to `most`, where that is given."""

    def __init__(self, shape: Sequence[int], kind: Any, layout: Any, most: int | None = None) -> None:
        dims = tuple(shape) if most is None else (-1, *shape[1:])
        self.desc = SimpleNamespace(dims=dims, type=kind, format=layout, scale=0.0)
        self.min, self.opt, self.max = ((rows, *shape[1:]) for rows in (1, shape[0], most or shape[0]))


class Symbol:
    """TensorRT's ISymExpr."""


def install() -> Any:
    """Put the stand-in at `tensorrt`, NVIDIA's `tensorrt.plugin` in it, and return it. For a process of its own."""
    rtx, lean = (importlib.import_module(f"tensorrt_{flavour}_bindings") for flavour in ("rtx", "lean"))
    stand_in: Any = types.ModuleType("tensorrt")
    for source in (rtx, lean):
        stand_in.__dict__.update({name: value for name, value in vars(source).items() if not name.startswith("__")})
    stand_in.__dict__.update({name: getattr(rtx, name) for name in FROM_RTX})
    stand_in.IDimensionExpr, stand_in.ISymExpr = Expression, Symbol
    stand_in.DynamicPluginTensorDesc, stand_in.DimsExprs = DynamicTensor, lambda count: [None] * count
    found = importlib.util.find_spec("tensorrt_bindings")  # not imported: it would load the native library
    assert found is not None
    assert found.origin is not None
    stand_in.__path__ = [str(Path(found.origin).parent)]
    sys.modules["tensorrt"] = stand_in
    stand_in.plugin = importlib.import_module("tensorrt.plugin")
    return stand_in


class PluginBuild:
    """What TensorRT's builder asks of one registered plugin, in its order, through NVIDIA's own classes."""

    def __init__(
        self,
        trt: Any,
        op: str,
        inputs: Sequence[tuple[Sequence[int], str]],
        attributes: Mapping[str, int],
        most_rows: int | None = None,
    ) -> None:
        """`inputs`: (shape, name of the data type) of each."""
        library, self.trt, self.count = trt.plugin._lib, trt, len(inputs)
        fields = [trt.PluginField(k, np.array([v]), trt.PluginFieldType.INT64) for k, v in attributes.items()]
        creator = library._TemplatePluginCreator(op, NAMESPACE, dict.fromkeys(attributes, (True, int)))
        request = trt.QuickPluginCreationRequest.STRICT_AOT
        self.plugin = creator.create_plugin(op, NAMESPACE, fields, trt.TensorRTPhase.BUILD, request)
        kinds = [getattr(trt.DataType, kind) for _, kind in inputs]
        self.output_types = self.plugin.get_output_data_types(kinds, [len(shape) for shape, _ in inputs])
        builder = Expressions(trt.DimensionOperation)
        symbolic = [[Expression(size) for size in shape] for shape, _ in inputs]
        shapes = self.plugin.get_output_shapes(symbolic, [], builder)
        self.output_shapes = [tuple(size.value for size in shape) for shape in shapes]
        described = [
            DynamicTensor(shape, kind, trt.TensorFormat.LINEAR, most_rows)
            for shape, kind in [
                *zip((shape for shape, _ in inputs), kinds, strict=True),
                *zip(self.output_shapes, self.output_types, strict=True),
            ]
        ]
        self._kernel(described, builder)

    def _kernel(self, described: list[DynamicTensor], builder: Expressions) -> None:
        self.launch, extra = SimpleNamespace(), _Extra()
        self.plugin.set_tactic(0)
        self.plugin.get_launch_params(None, described, self.count, self.launch, extra, builder)
        self.integers = [symbol.expr.value for _, symbol in sorted(extra.items())]
        parts = [tensor.desc for tensor in described]
        self.name, self.ptx = self.plugin.get_kernel(parts[: self.count], parts[self.count :])

    def launched(self) -> dict[str, int]:
        """The launch's numbers by name."""
        return {name: symbol.expr.value for name, symbol in vars(self.launch).items()}


class _Extra(dict[int, Any]):
    """Where TensorRT takes a kernel's integers from."""

    nbSymExprs = 0
