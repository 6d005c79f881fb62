"""Mistral: Llama's layers, which may all see a window only. llama.cpp calls its files `llama`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dspark_export.checkpoints import DecoderShape
from dspark_export.checkpoints.config_file import DecoderConfig
from dspark_export.families.llama import COMMON_DEFAULTS, LlamaFamily


class MistralFamily(LlamaFamily):
    """`MistralForCausalLM`."""

    name = "mistral"
    architectures = ("MistralForCausalLM",)
    gguf = None
    defaults: Mapping[str, Any] = COMMON_DEFAULTS | {
        "max_position_embeddings": 131072,
        "num_key_value_heads": 8,
        "sliding_window": 4096,
    }

    def read_shape(self, config: DecoderConfig, path: Path) -> DecoderShape:
        return config.decoder_shape(path, (config.sliding_window or 0,) * config.num_hidden_layers)
