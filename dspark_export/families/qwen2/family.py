"""Qwen2 and Qwen2.5: Llama's layers, with biases on query, key and value."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dspark_export.checkpoints import DecoderShape
from dspark_export.checkpoints.config_file import DecoderConfig
from dspark_export.checkpoints.seams.gguf_layout import LAYER, GgufLayout
from dspark_export.families.llama import COMMON_DEFAULTS, TOP, LlamaFamily


class Qwen2Family(LlamaFamily):
    """`Qwen2ForCausalLM`, and `qwen2` in GGUF."""

    name = "qwen2"
    architectures = ("Qwen2ForCausalLM",)
    gguf = GgufLayout(architecture="qwen2", top=TOP, layer=LAYER, permuted=False, qkv_bias=True)
    defaults: Mapping[str, Any] = COMMON_DEFAULTS | {
        "max_position_embeddings": 32768,
        "num_key_value_heads": 32,
        "sliding_window": 4096,
        "max_window_layers": 28,
    }

    def read_shape(self, config: DecoderConfig, path: Path) -> DecoderShape:
        return config.decoder_shape(path, config.windows(path), qkv_bias=True)
