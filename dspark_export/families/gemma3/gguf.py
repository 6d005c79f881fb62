"""Gemma 3 in GGUF, with what llama.cpp's loader takes for granted (src/models, gemma3)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dspark_export.checkpoints import LayerSpec, RopeSpec
from dspark_export.checkpoints.seams.gguf_layout import HEAD_NORMS, LAYER, GgufLayout
from dspark_export.families.gemma3.config import PATTERN
from dspark_export.families.llama import TOP

if TYPE_CHECKING:
    from dspark_export.checkpoints.gguf_file import GgufFile

NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
GEMMA3 = GgufLayout(architecture="gemma3", top=TOP, layer=LAYER | HEAD_NORMS | NORMS, permuted=False, qk_norm=True)
LOCAL_THETA = 10000.0
LAYERS_OF_27B = 62
"""Whose attention is scaled by hidden size over heads, not by the width of a head; the file does not say so."""


def gemma3_layers(file: GgufFile, layer: LayerSpec, depth: int) -> tuple[LayerSpec, ...]:
    """Every sixth layer sees everything; the others see a window and are rotated by their own base, unscaled."""
    window = file.count("gemma3.attention.sliding_window")
    theta = file.positive("gemma3.rope.freq_base_swa", LOCAL_THETA)
    scale = layer.head_dim**-0.5
    if depth == LAYERS_OF_27B:
        scale = (file.count("gemma3.embedding_length") / layer.num_heads) ** -0.5
    full = replace(layer, scale=scale, activation="gelu_tanh", sandwich=True)
    local = RopeSpec(theta, attention_factor=file.positive("gemma3.rope.scaling.attn_factor", 1.0))
    sliding = replace(full, rope=local, window=window)
    return tuple(sliding if (i + 1) % PATTERN else full for i in range(depth))
