"""Compile an exported graph for ONNX Runtime: lower attention, keep everything else, share the weights."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir

from dspark_engines.backends.onnxruntime.lower_attention import (
    HEAD_DIM_MULTIPLE,
    lower_block_attention,
    lower_cached_attention,
)
from dspark_engines.backends.onnxruntime.rewriting import Lowering
from dspark_engines.errors import BackendError
from dspark_plugins import DOMAIN
from dspark_plugins.attention import BLOCK_ATTENTION, CACHED_ATTENTION, AttentionSpec

LOWERINGS = {CACHED_ATTENTION: lower_cached_attention, BLOCK_ATTENTION: lower_block_attention}


def compile_graph(source: Path, destination: Path, *, lengths: str, slots: int) -> None:
    """Write `destination`, `source` lowered for `slots` rows. External weights stay where they are.

    `lengths` names the input that holds the row lengths. Raises `BackendError` for a head width that
    the attention kernel cannot take.
    """
    model = ir.load(source)
    low = Lowering(model.graph, lengths, slots)
    low.run(lambda node: _lower(low, node))
    for name in LOWERINGS:
        model.functions.pop((DOMAIN, name, ""), None)
    onnx.save(ir.to_proto(model), destination)


def _lower(low: Lowering, node: ir.Node) -> bool:
    if node.domain != DOMAIN or node.op_type not in LOWERINGS:
        return False
    values = {name: attribute.as_int() for name, attribute in node.attributes.items()}
    spec = AttentionSpec(**values)
    if node.op_type == CACHED_ATTENTION and spec.head_dim % HEAD_DIM_MULTIPLE:
        raise BackendError(
            f"head_dim {spec.head_dim} is not a multiple of {HEAD_DIM_MULTIPLE}, which ONNX Runtime's "
            "GroupQueryAttention needs",
            hint="no backend of this version can run such a target",
        )
    LOWERINGS[node.op_type](low, node, spec)
    return True
