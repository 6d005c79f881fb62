"""What a family's GGUF files call things."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
"""Canonical names of a pre-norm layer's tensors by those of llama.cpp's gguf-py constants (`LLM_TENSOR`)."""
EXPERTS = {
    "ffn_gate_inp": "mlp.router",
    "ffn_gate_exps": "mlp.experts.gate_proj",
    "ffn_up_exps": "mlp.experts.up_proj",
    "ffn_down_exps": "mlp.experts.down_proj",
}
SANDWICH_NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
"""Of a layer that norms attention and MLP again before they are added; over `LAYER`, whose `ffn_norm` is another."""
HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}


@dataclass(frozen=True, kw_only=True)
class GgufLayout:
    """`architecture`: `general.architecture`, and what the keys of the description begin with, `llama.block_count`.

    `top` and `layer` give the canonical name of a tensor, without `.weight`: `output_norm` -> `norm`, and
    `attn_q` (of `blk.0.attn_q`) -> `self_attn.q_proj`. `permuted`: llama.cpp's converter interleaves the rotary pairs
    of this family's q and k. `qk_norm`: queries and keys have norms; `qkv_bias`: queries, keys and values have biases
    in every file, otherwise they may. `whole`: full names of a layer's tensors that end in another way here,
    `attn_sinks.weight` -> `self_attn.sinks`.
    """

    architecture: str
    top: Mapping[str, str]
    layer: Mapping[str, str]
    permuted: bool
    qk_norm: bool = False
    qkv_bias: bool = False
    whole: Mapping[str, str] = field(default_factory=dict)
