"""Qwen2, Qwen2.5 and MiMo: Llama's layers, with biases on query, key and value."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dspark_export.checkpoints import DecoderShape, TargetSpec
from dspark_export.checkpoints.config_file import DecoderConfig
from dspark_export.checkpoints.seams.gguf_layout import LAYER, GgufLayout
from dspark_export.checkpoints.tensors import Entry, TensorSource
from dspark_export.families.llama import COMMON_DEFAULTS, TOP, LlamaFamily

MTP_HEAD = "mtp_layers."


class Qwen2Family(LlamaFamily):
    """`Qwen2ForCausalLM`, and `qwen2` in GGUF. `MiMoForCausalLM` is its subclass with an MTP head, which is
    left to the reader of drafters."""

    name = "qwen2"
    architectures = ("Qwen2ForCausalLM", "MiMoForCausalLM")
    gguf = GgufLayout(architecture="qwen2", top=TOP, layer=LAYER, permuted=False, qkv_bias=True)
    defaults: Mapping[str, Any] = COMMON_DEFAULTS | {
        "max_position_embeddings": 32768,
        "num_key_value_heads": 32,
        "sliding_window": 4096,
        "max_window_layers": 28,
    }

    def read_shape(self, config: DecoderConfig, path: Path) -> DecoderShape:
        return config.decoder_shape(path, config.windows(path), qkv_bias=True)

    def hf_entries(
        self, path: Path, spec: TargetSpec, entries: Mapping[str, Entry], source: TensorSource
    ) -> tuple[Mapping[str, Entry], TensorSource]:
        del path, spec
        return {name: entry for name, entry in entries.items() if not name.startswith(MTP_HEAD)}, source
