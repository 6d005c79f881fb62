"""Llama in GGUF: names of llama.cpp's gguf-py constants (`LLM_TENSOR`), the same for most decoders."""

from __future__ import annotations

from dspark_export.checkpoints.seams import GgufLayout

TOP = {"token_embd": "embed_tokens", "output_norm": "norm", "output": "lm_head"}
LAYER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
LLAMA = GgufLayout(architecture="llama", top=TOP, layer=LAYER, permuted=True)
