"""Qwen3-MoE in GGUF: a stack of experts in each layer, renormalised as llama.cpp's graph of it does without asking."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dspark_export.checkpoints import LayerSpec
from dspark_export.checkpoints.expert_config import gguf_expert_spec
from dspark_export.checkpoints.seams.gguf_layout import EXPERTS, HEAD_NORMS, LAYER, GgufLayout
from dspark_export.families.llama import TOP

if TYPE_CHECKING:
    from dspark_export.checkpoints.gguf_file import GgufFile

QWEN3_MOE = GgufLayout(
    architecture="qwen3moe", top=TOP, layer=LAYER | HEAD_NORMS | EXPERTS, permuted=False, qk_norm=True
)


def qwen3_moe_layers(file: GgufFile, layers: tuple[LayerSpec, ...]) -> tuple[LayerSpec, ...]:
    """All layers have experts: llama.cpp reads no others."""
    experts = gguf_expert_spec(file, "qwen3moe", renormalised=True)
    width = file.count("qwen3moe.expert_feed_forward_length")
    return tuple(replace(layer, intermediate_size=width, experts=experts) for layer in layers)
