"""Write a graph with its weights beside it, one tensor in memory at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir import external_data

SMALL = 1024  # bytes; smaller initializers stay inside the .onnx file, where shape inference sees them

Progress = Callable[[int, int], None]


def save_graph(model: ir.Model, path: Path, progress: Progress | None = None) -> dict[str, ir.ExternalTensor]:
    """Write `path` and, with weights of its own, `path`.data, and check the result with `onnx.checker`.

    Initializers that are already external (shared with another graph of the same directory) are only
    referred to. `progress(done, total)` counts tensors. Returns the external tensors by name.
    Raises `onnx.checker.ValidationError` when the graph is not valid ONNX (a bug).
    """
    initializers = model.graph.initializers
    own = [
        value.const_value
        for value in initializers.values()
        if value.const_value is not None
        and value.const_value.nbytes > SMALL
        and not isinstance(value.const_value, ir.ExternalTensor)
    ]
    written = own and external_data.convert_tensors_to_external(
        own,
        path.parent,
        f"{path.name}.data",
        callback=None if progress is None else lambda _, info: progress(info.index + 1, info.total),
    )
    tensors = {tensor.name: tensor for tensor in written if isinstance(tensor, ir.ExternalTensor)}
    for name, tensor in tensors.items():
        initializers[name].const_value = tensor
    onnx.save(ir.to_proto(model), path)
    onnx.checker.check_model(path, full_check=False)
    return tensors
