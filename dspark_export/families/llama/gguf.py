"""Llama in GGUF: names of llama.cpp's gguf-py constants (`LLM_TENSOR`), the same for most decoders."""

from __future__ import annotations

from dspark_export.checkpoints.seams.gguf_layout import LAYER, GgufLayout

TOP = {"token_embd": "embed_tokens", "output_norm": "norm", "output": "lm_head"}
LLAMA = GgufLayout(architecture="llama", top=TOP, layer=LAYER, permuted=True)
