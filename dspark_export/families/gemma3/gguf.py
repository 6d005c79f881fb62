"""Gemma 3 in GGUF, with what llama.cpp's loader takes for granted (src/models, gemma3)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dspark_export.checkpoints import LayerSpec, RopeSpec
from dspark_export.checkpoints.seams.gguf_layout import HEAD_NORMS, LAYER, SANDWICH_NORMS, GgufLayout
from dspark_export.families.gemma3.config import PATTERN
from dspark_export.families.llama import TOP

if TYPE_CHECKING:
    from dspark_export.checkpoints.gguf_file import GgufFile

GEMMA3 = GgufLayout(
    architecture="gemma3", top=TOP, layer=LAYER | HEAD_NORMS | SANDWICH_NORMS, permuted=False, qk_norm=True
)
LOCAL_THETA = 10000.0
LAYERS_OF_27B = 62
"""Whose attention is scaled by hidden size over heads, not by the width of a head; the file does not say so."""


def gemma3_layers(file: GgufFile, layers: tuple[LayerSpec, ...]) -> tuple[LayerSpec, ...]:
    """Every sixth layer sees everything; the others see a window and are rotated by their own base, unscaled."""
    window = file.count("gemma3.attention.sliding_window")
    theta = file.positive("gemma3.rope.freq_base_swa", LOCAL_THETA)
    scale = layers[0].head_dim ** -0.5
    if len(layers) == LAYERS_OF_27B:
        scale = (file.count("gemma3.embedding_length") / layers[0].num_heads) ** -0.5
    full = tuple(replace(layer, scale=scale, activation="gelu_tanh", sandwich=True) for layer in layers)
    local = RopeSpec(theta, attention_factor=file.positive("gemma3.rope.scaling.attn_factor", 1.0))
    return tuple(
        replace(layer, rope=local, window=window) if (i + 1) % PATTERN else layer for i, layer in enumerate(full)
    )
