"""Qwen3: Llama's layers, with a norm on every query and key head."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dspark_export.checkpoints import DecoderShape
from dspark_export.checkpoints.config_file import DecoderConfig
from dspark_export.families.llama import COMMON_DEFAULTS, LlamaFamily
from dspark_export.families.qwen3.gguf import QWEN3


class Qwen3Family(LlamaFamily):
    """`Qwen3ForCausalLM`, and `qwen3` in GGUF."""

    name = "qwen3"
    architectures = ("Qwen3ForCausalLM",)
    gguf = QWEN3
    defaults: Mapping[str, Any] = COMMON_DEFAULTS | {
        "max_position_embeddings": 32768,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "sliding_window": 4096,
        "max_window_layers": 28,
    }

    def read_shape(self, config: DecoderConfig, path: Path) -> DecoderShape:
        biased = config.attention_bias
        return config.decoder_shape(path, config.windows(path), qk_norm=True, qkv_bias=biased, output_bias=biased)
