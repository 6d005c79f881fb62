"""One engine of the CUDA provider: a lowered graph, and its weights in the precision that it computes in."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir

from dspark_engines.backends.onnxruntime_cuda.lowering import lower_for_cuda
from dspark_engines.backends.options import EnginePrecision
from dspark_engines.backends.padded.lowering import save_lowered
from dspark_engines.bundle import Role


def compile_graph(
    source: Path, destination: Path, role: Role, capacity: int, precision: EnginePrecision, *, greedy: bool = False
) -> None:
    """Write `destination`, and beside it `destination`.data, the weights in half precision.

    In float32 there is nothing to convert: the weights of `source` stay where they are.
    """
    model = lower_for_cuda(source, role, capacity, precision, greedy=greedy)
    if precision == "fp32":
        onnx.save(ir.to_proto(model), destination)
    else:
        save_lowered(model, destination)
