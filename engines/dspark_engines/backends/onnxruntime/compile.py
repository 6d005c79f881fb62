"""Compile an exported graph for ONNX Runtime: lower attention, keep everything else, share the weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from dspark_engines.backends.onnxruntime.lower_argmax import lower_argmax
from dspark_engines.backends.onnxruntime.lower_attention import (
    HEAD_DIM_MULTIPLE,
    lower_cached_attention,
)
from dspark_engines.backends.onnxruntime.lower_block_attention import lower_block_attention
from dspark_engines.backends.onnxruntime.lower_experts import lower_experts
from dspark_engines.backends.onnxruntime.lower_int8 import lower_int8_linear, lower_quantize_rows
from dspark_engines.backends.onnxruntime.lower_norms import NORM, lower_norm, lower_residual_sum
from dspark_engines.backends.onnxruntime.own_weights import give_own_weights
from dspark_engines.backends.onnxruntime.rewriting import Lowering
from dspark_engines.errors import BackendError
from dspark_plugins import DOMAIN
from dspark_plugins.attention import BLOCK_ATTENTION, CACHED_ATTENTION
from dspark_plugins.attention.function import read_node
from dspark_plugins.draft_vocabulary import EXPAND
from dspark_plugins.expert_mlp import EXPERT_MLP
from dspark_plugins.int8_linear import INT8_LINEAR, QUANTIZE_ROWS
from dspark_plugins.int8_linear.function import op_name

ATTENTION = {CACHED_ATTENTION: lower_cached_attention, BLOCK_ATTENTION: lower_block_attention}
LINEAR = {
    op_name(name, terms): partial(lower, terms=terms)
    for name, lower in ((QUANTIZE_ROWS, lower_quantize_rows), (INT8_LINEAR, lower_int8_linear))
    for terms in (1, 2)
}
STANDARD = {"Add": lower_residual_sum, NORM: lower_norm, "ArgMax": lower_argmax}
LOWERED = (*ATTENTION, *LINEAR, EXPERT_MLP)


def compile_graph(source: Path, destination: Path, *, slots: int) -> None:
    """Write `destination`, `source` lowered for `slots` rows. External weights stay where they are.

    Raises `BackendError` for a head width that the attention kernel cannot take.
    """
    model = ir.load(source)
    _keep_reduced(model.graph)
    InlinePass(lambda function: function.domain == DOMAIN and function.name not in LOWERED)(model)
    exact = any(node.op_type in LINEAR for node in model.graph)  # integers are, so the rest has to be as well
    low = Lowering(model.graph, slots, pad_single_rows=exact)
    low.run(lambda node: _lower(low, node))
    give_own_weights(model.graph)
    for key in [key for key in model.functions if key[0] == DOMAIN and key[1] in LOWERED]:
        del model.functions[key]
    onnx.save(ir.to_proto(model), destination)


def _keep_reduced(graph: ir.Graph) -> None:
    """Leave out what lays draft logits out over all tokens: the engine does that for those who ask."""
    for node in [node for node in graph if (node.domain, node.op_type) == (DOMAIN, EXPAND)]:
        (wide,), (reduced, place) = node.outputs, node.inputs
        assert reduced is not None, "the op has no optional inputs"
        name, rows = wide.name, wide.shape
        ir.convenience.replace_all_uses_with(wide, reduced, replace_graph_outputs=True)
        graph.remove(node, safe=True)
        reduced.name = name
        assert rows is not None, "exported graphs declare their interface"
        reduced.shape, reduced.type = ir.Shape([*rows[:2], _length(place)]), wide.type


def _length(place: ir.Value | None) -> int:
    """Vd: what `place` says of tokens that cannot be drafted."""
    assert place is not None, "the op has no optional inputs"
    assert place.const_value is not None, "an initializer"
    return int(place.const_value.numpy().max())


def _lower(low: Lowering, node: ir.Node) -> bool:
    if not node.domain and node.op_type in STANDARD:
        return STANDARD[node.op_type](low, node)
    if node.domain != DOMAIN or node.op_type not in LOWERED:
        return False
    if node.op_type in LINEAR:
        LINEAR[node.op_type](low, node)
        return True
    if node.op_type == EXPERT_MLP:
        lower_experts(low, node)
        return True
    spec = read_node(node)
    if node.op_type == CACHED_ATTENTION and spec.head_dim % HEAD_DIM_MULTIPLE:
        raise BackendError(
            f"head_dim {spec.head_dim} is not a multiple of {HEAD_DIM_MULTIPLE}, which ONNX Runtime's "
            "GroupQueryAttention needs",
            hint="no backend of this version can run such a model",
        )
    ATTENTION[node.op_type](low, node, spec)
    return True
