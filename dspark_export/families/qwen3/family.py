"""Qwen3: Llama's layers, with a norm on every query and key head."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dspark_export.checkpoints import DecoderShape
from dspark_export.checkpoints.config_file import DecoderConfig
from dspark_export.families.llama import COMMON_DEFAULTS, LlamaFamily


class Qwen3Family(LlamaFamily):
    """`Qwen3ForCausalLM`. Its GGUF files are not read yet."""

    name = "qwen3"
    architectures = ("Qwen3ForCausalLM",)
    gguf = None
    defaults: Mapping[str, Any] = COMMON_DEFAULTS | {
        "max_position_embeddings": 32768,
        "num_key_value_heads": 32,
        "head_dim": 128,
    }

    def read_shape(self, config: DecoderConfig, path: Path) -> DecoderShape:
        return config.decoder_shape(path, qk_norm=True)
