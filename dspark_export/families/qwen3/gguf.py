"""Qwen3 in GGUF: Llama's names, norms of heads, rotary halves as they were."""

from __future__ import annotations

from dspark_export.checkpoints.seams.gguf_layout import HEAD_NORMS, LAYER, GgufLayout
from dspark_export.families.llama import TOP

QWEN3 = GgufLayout(architecture="qwen3", top=TOP, layer=LAYER | HEAD_NORMS, permuted=False, qk_norm=True)
