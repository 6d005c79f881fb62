"""Qwen3 in GGUF: Llama's names, norms of heads, rotary halves as they were."""

from __future__ import annotations

from dspark_export.checkpoints.seams import GgufLayout
from dspark_export.families.llama import LAYER, TOP

NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
QWEN3 = GgufLayout(architecture="qwen3", top=TOP, layer=LAYER | NORMS, permuted=False, qk_norm=True)
