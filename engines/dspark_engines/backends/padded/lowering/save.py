"""Write a lowered graph with its weights beside it, converted one tensor at a time."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir import external_data

SMALL = 1024  # bytes; smaller initializers stay inside the file


def save_lowered(model: ir.Model, path: Path) -> int:
    """Write `path` and `path`.data; returns the bytes of all weights.

    A builder that is handed float32 and told to cast would hold both: conversion happens here, on the way to the disk.
    """
    initializers = model.graph.initializers
    large = [
        value.const_value
        for value in initializers.values()
        if value.const_value is not None and value.const_value.nbytes > SMALL
    ]
    written = external_data.convert_tensors_to_external(large, path.parent, f"{path.name}.data")
    for tensor in written:
        assert tensor.name is not None, "initializers have names"
        initializers[tensor.name].const_value = tensor
    onnx.save(ir.to_proto(model), path)
    return sum(tensor.nbytes for tensor in large)
