"""Gemma 3's text model: four norms a layer, gains of one plus w, windows in five layers of six, two rotations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dspark_export.checkpoints import DecoderShape, LayerSpec
from dspark_export.checkpoints.config_file import DecoderConfig
from dspark_export.checkpoints.tensors import STORED, Array
from dspark_export.families.gemma3.config import Gemma3Config
from dspark_export.families.gemma3.gguf import GEMMA3, gemma3_layers
from dspark_export.families.llama import COMMON_DEFAULTS, LlamaFamily

if TYPE_CHECKING:
    from dspark_export.checkpoints.gguf_file import GgufFile


class Gemma3Family(LlamaFamily):
    """`Gemma3ForCausalLM`, the text model of `Gemma3ForConditionalGeneration`, and `gemma3` in GGUF."""

    name = "gemma3"
    architectures = ("Gemma3ForCausalLM",)
    composites = ("Gemma3ForConditionalGeneration",)
    config = Gemma3Config
    gguf = GEMMA3
    defaults: Mapping[str, Any] = COMMON_DEFAULTS | {
        "max_position_embeddings": 131072,
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
        "head_dim": 256,
        "num_key_value_heads": 4,
        "sliding_window": 4096,
        "query_pre_attn_scalar": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "tie_word_embeddings": True,
        "bos_token_id": 2,
        "eos_token_id": 1,
    }

    def read_shape(self, config: DecoderConfig, path: Path) -> DecoderShape:
        assert isinstance(config, Gemma3Config)
        return config.gemma3_shape(path)

    def hf_facts(self, config: DecoderConfig, stored: str) -> dict[str, Any]:
        assert isinstance(config, Gemma3Config)
        scale = np.asarray(math.sqrt(config.hidden_size), STORED.get(stored, np.float32))
        return {"embedding_scale": float(scale), "logit_softcap": config.final_logit_softcapping or 0.0}

    def hf_transform(self, name: str) -> Callable[[Array], Array] | None:
        return _one_plus if name.endswith("norm.weight") else None

    def gguf_layers(self, file: GgufFile, layers: tuple[LayerSpec, ...]) -> tuple[LayerSpec, ...]:
        return gemma3_layers(file, layers)

    def gguf_facts(self, file: GgufFile) -> dict[str, Any]:
        hidden, cap = file.count("gemma3.embedding_length"), file.get("gemma3.final_logit_softcapping", 0.0)
        return {"embedding_scale": math.sqrt(hidden), "logit_softcap": cap}


def _one_plus(gain: Array) -> Array:
    """What the file holds is a norm's gain less one."""
    return gain + 1
