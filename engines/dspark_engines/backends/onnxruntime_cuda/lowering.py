"""From an exported graph to one whose every node ONNX Runtime's CUDA provider has a kernel for.

It is the lowering to padded steps (rows padded to one width, TensorScatter into the caches, Attention over them), but
for the masks. The provider has a fused kernel for attention over caches that something else has filled only where the
number of valid cells and `is_causal` say what may be seen; with a mask it falls back to kernels that copy whole caches.
"""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnxscript.optimizer import fold_constants

from dspark_engines.backends.options import EnginePrecision
from dspark_engines.backends.padded.lowering import lower_graph
from dspark_engines.bundle import Role
from dspark_engines.errors import BackendError

MASK = 3
"""Place of attn_mask among the inputs of `Attention`; `nonpad_kv_seqlen`, behind it, stays."""


def lower_for_cuda(
    source: Path, role: Role, capacity: int, precision: EnginePrecision, *, greedy: bool = False
) -> ir.Model:
    """`source` for the CUDA provider, caches of `capacity` cells, weights still on the disk.

    A `greedy` drafter has no output draft_logits. Its shapes are those of `padded.shapes`, its inputs those of
    `padded.packing`.
    """
    _check_windows(source)
    model = lower_graph(source, capacity, precision, greedy=greedy)
    for node in model.graph:
        if node.op_type == "Attention":
            _unmask(node, causal=role == "verify")
    RemoveUnusedNodesPass()(model)
    # Sizes that are known would otherwise be computed on the host, between copies from the device and back.
    fold_constants(model, onnx_shape_inference=True)
    RemoveUnusedNodesPass()(model)
    return model


def _unmask(node: ir.Node, *, causal: bool) -> None:
    """Query i of a row of S sees the first visible - S + i + 1 cells, or all that are visible.

    Opset 24 says so of causal attention over a cache that was filled outside, `is_causal` with `nonpad_kv_seqlen`.
    """
    node.replace_input_with(MASK, None)
    if causal:
        node.attributes["is_causal"] = ir.AttrInt64("is_causal", 1)


def _check_windows(source: Path) -> None:
    """Raises `BackendError` for windows and causal blocks, which take a mask: without one, attention sees all."""
    graph = ir.load(source).graph
    windows = {node.attributes["window"].as_int() for node in graph if "window" in node.attributes}
    limits = [f"see {min(windows)} tokens only"] if windows else []
    limits += ["draft in causal blocks"] if any("causal" in node.attributes for node in graph) else []
    if limits:
        raise BackendError(
            f"layers of this {source.stem} {limits[0]}, which backend 'onnxruntime-cuda' cannot do yet",
            hint="--backend tensorrt-rtx builds it, --backend onnxruntime runs it on the CPU",
        )
