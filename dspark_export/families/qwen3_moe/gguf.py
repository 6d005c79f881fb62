"""Qwen3-MoE in GGUF: a stack of experts in each layer, renormalised as llama.cpp's graph of it does without asking."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dspark_export.checkpoints import ExpertSpec, LayerSpec
from dspark_export.checkpoints.seams.gguf_layout import HEAD_NORMS, LAYER, GgufLayout
from dspark_export.families.llama import TOP

if TYPE_CHECKING:
    from dspark_export.checkpoints.gguf_file import GgufFile

EXPERTS = {
    "ffn_gate_inp": "mlp.router",
    "ffn_gate_exps": "mlp.experts.gate_proj",
    "ffn_up_exps": "mlp.experts.up_proj",
    "ffn_down_exps": "mlp.experts.down_proj",
}
QWEN3_MOE = GgufLayout(
    architecture="qwen3moe", top=TOP, layer=LAYER | HEAD_NORMS | EXPERTS, permuted=False, qk_norm=True
)


def qwen3_moe_layers(file: GgufFile, layer: LayerSpec, depth: int) -> tuple[LayerSpec, ...]:
    """All layers have experts: llama.cpp reads no others."""
    count, used = file.count("qwen3moe.expert_count"), file.count("qwen3moe.expert_used_count")
    experts = ExpertSpec(count=count, per_token=used, renormalised=True)
    width = file.count("qwen3moe.expert_feed_forward_length")
    return (replace(layer, intermediate_size=width, experts=experts),) * depth
