"""A node's kernel, launched from Python: on a GPU, or on the CPU under Triton's interpreter (TRITON_INTERPRET=1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dspark_plugins.nodes.node import Attributes, PluginNode, ceil_div

Allocate = Callable[[tuple[int, ...], str], Any]
"""(shape, Triton's type name) to an uninitialised tensor on the device."""


def launch(
    node: PluginNode, tensors: Mapping[str, Any], attributes: Attributes, allocate: Allocate, most_rows: int = 0
) -> dict[str, Any]:
    """The node's outputs by name. `tensors` holds its inputs: contiguous, with `shape` and `data_ptr()`, as torch's.

    `most_rows` chooses the variant of the kernel; the number of rows at hand where it is 0.
    """
    inputs = {name: tensors[name] for name in node.inputs}
    rows = int(inputs[node.rows_of].shape[0])
    shapes = node.shapes(attributes, rows)
    outputs = {name: allocate(shapes[name], kind) for name, kind in node.outputs.items()}
    constants = node.constants(attributes, most_rows or rows)
    function = node.function()
    passed = {**inputs, **node.values(attributes, rows), **outputs}
    arguments = {name: passed[name] if name in passed else constants.get(name) for name in function.arg_names}
    grid = node.grid(attributes, rows, ceil_div, constants)
    function[grid](**arguments, num_warps=node.warps(constants))
    return outputs
