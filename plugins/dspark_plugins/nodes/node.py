"""What a plugin node is: one op with fixed tensors, one kernel, one launch.

A TensorRT plugin that is compiled ahead of time launches exactly one kernel, whose parameters are the input tensors,
then 32-bit integers, then the output tensors. A `PluginNode` says this once; compiling, launching and the registration
with TensorRT all read it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Attributes = Mapping[str, int]
Rows = Any
"""A number of rows: an int, or a symbolic expression of TensorRT's that can be multiplied and compared."""
Ceil = Callable[[Rows, int], Rows]
Shapes = Callable[[Attributes, Rows], dict[str, tuple[Any, ...]]]
Grid = Callable[[Attributes, Rows, Ceil, Mapping[str, Any]], tuple[Any, Any, Any]]
Warps = Callable[[Mapping[str, Any]], int]
Constants = Callable[[Attributes, int], dict[str, Any]]

FLOAT, INT, LONG = "fp32", "i32", "i64"
WEIGHT = "weight"
"""fp32, fp16 or bf16, as the graph has it; kernels compute in float32."""
WEIGHT_TYPES = ("fp32", "fp16", "bf16")


@dataclass(frozen=True, eq=False)
class PluginNode:
    """One op of domain `dspark` for TensorRT. All tensors are contiguous.

    op          the ONNX operator and the plugin's name
    kernel      "module:function", imported only when needed
    inputs      name to type, in the op's order; the kernel has parameters of these names
    outputs     likewise
    attributes  names of the node's integer attributes
    rows_of     the input whose first axis is the number of rows
    integers    the kernel's 32-bit parameters: "rows" or an attribute's name
    shapes      (attributes, rows) to the outputs' shapes
    grid        (attributes, rows, ceil division, constants) to the launch grid
    constants   (attributes, the most rows there will be) to the kernel's compile-time constants
    warps       constants to the number of warps of 32 threads in a program
    """

    op: str
    kernel: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    attributes: tuple[str, ...]
    rows_of: str
    integers: tuple[str, ...]
    shapes: Shapes
    grid: Grid
    constants: Constants
    warps: Warps

    def function(self) -> Any:
        """The Triton function. Raises `ImportError` where triton is not installed."""
        module, name = self.kernel.split(":")
        return getattr(importlib.import_module(module), name)

    def parameters(self) -> tuple[str, ...]:
        """What is passed at a launch, in order."""
        return (*self.inputs, *self.integers, *self.outputs)

    def values(self, attributes: Attributes, rows: Rows) -> dict[str, Rows]:
        """The integers by name."""
        return {name: rows if name == "rows" else attributes[name] for name in self.integers}


def ceil_div(value: int, divisor: int) -> int:
    """value / divisor, rounded up."""
    return -(-value // divisor)


def power_of_two(value: int, least: int = 1) -> int:
    """The smallest power of two that is at least `value` and at least `least`."""
    return max(least, 1 << max(value - 1, 0).bit_length())
