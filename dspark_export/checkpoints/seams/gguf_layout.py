"""What a family's GGUF files call things."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class GgufLayout:
    """`architecture`: `general.architecture`, and what the keys of the description begin with, `llama.block_count`.

    `top` and `layer` give the canonical name of a tensor, without `.weight`: `output_norm` -> `norm`, and
    `attn_q` (of `blk.0.attn_q`) -> `self_attn.q_proj`. `permuted`: llama.cpp's converter interleaves the rotary pairs
    of this family's q and k. `qk_norm`: queries and keys have norms; `qkv_bias`: queries, keys and values have biases
    in every file, otherwise they may.
    """

    architecture: str
    top: Mapping[str, str]
    layer: Mapping[str, str]
    permuted: bool
    qk_norm: bool = False
    qkv_bias: bool = False
