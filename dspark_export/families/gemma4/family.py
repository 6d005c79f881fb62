"""Gemma 4's text model: two kinds of layers with heads of their own, values normed, inputs for every layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import DecoderShape, LayerSpec, TargetSpec
from dspark_export.checkpoints.config_file import DecoderConfig
from dspark_export.checkpoints.seams import GgufLayout
from dspark_export.checkpoints.tensors import STORED, Entry, TensorSource
from dspark_export.families.gemma4.config import Gemma4Config, Gemma4UnifiedConfig
from dspark_export.families.gemma4.experts import split_experts
from dspark_export.families.gemma4.gguf import GEMMA4, gemma4_facts, gemma4_layers
from dspark_export.families.llama import LlamaFamily

if TYPE_CHECKING:
    from dspark_export.checkpoints.gguf_file import GgufFile

TAKEN_OVER = ("k_proj.weight", "v_proj.weight", "k_norm.weight", "k_proj.bias", "v_proj.bias")


class Gemma4Family(LlamaFamily):
    """`Gemma4ForCausalLM`, and the text model of `Gemma4ForConditionalGeneration`, and `gemma4` in GGUF."""

    name = "gemma4"
    architectures = ("Gemma4ForCausalLM",)
    composites = ("Gemma4ForConditionalGeneration",)
    config: type[DecoderConfig] = Gemma4Config
    gguf: GgufLayout | None = GEMMA4
    defaults: Mapping[str, Any] = {
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 131072,
        "head_dim": 256,
        "global_head_dim": 512,
        "num_key_value_heads": 4,
        "sliding_window": 512,
        "hidden_activation": "gelu_pytorch_tanh",
        "tie_word_embeddings": True,
        "attention_k_eq_v": False,
        "num_kv_shared_layers": 0,
        "use_double_wide_mlp": False,
        "enable_moe_block": False,
        "hidden_size_per_layer_input": 256,
        "vocab_size_per_layer_input": 262144,
        "bos_token_id": 2,
        "eos_token_id": 1,
    }

    def read_shape(self, config: DecoderConfig, path: Path) -> DecoderShape:
        assert isinstance(config, Gemma4Config)
        if config.hidden_size_per_layer_input and config.vocab_size_per_layer_input != config.vocab_size:
            raise CheckpointError(
                f"{path}: vocab_size_per_layer_input is {config.vocab_size_per_layer_input}, vocab_size "
                f"{config.vocab_size}",
                hint="tokens without an input for every layer are not supported",
            )
        return config.gemma4_shape(path)

    def hf_facts(self, config: DecoderConfig, stored: str) -> dict[str, Any]:
        assert isinstance(config, Gemma4Config)
        kind = STORED.get(stored, np.float32)

        def rounded(width: int) -> float:
            return float(np.asarray(math.sqrt(width), kind))

        facts = {"embedding_scale": rounded(config.hidden_size), "logit_softcap": config.final_logit_softcapping or 0.0}
        width = config.hidden_size_per_layer_input
        return facts | ({"per_layer_scale": rounded(width)} if width else {})

    def hf_entries(
        self, path: Path, spec: TargetSpec, entries: Mapping[str, Entry], source: TensorSource
    ) -> tuple[Mapping[str, Entry], TensorSource]:
        del path
        return _named(spec, entries, source), source

    def gguf_layers(self, file: GgufFile, layers: tuple[LayerSpec, ...]) -> tuple[LayerSpec, ...]:
        return gemma4_layers(file, layers)

    def gguf_facts(self, file: GgufFile) -> dict[str, Any]:
        return gemma4_facts(file)

    def gguf_entries(self, spec: TargetSpec, entries: Mapping[str, Entry], source: TensorSource) -> Mapping[str, Entry]:
        return _named(spec, entries, source)


def _named(spec: TargetSpec, entries: Mapping[str, Entry], source: TensorSource) -> dict[str, Entry]:
    """Files may hold keys and values of layers that take others', which nobody reads; experts are split."""
    unread = {
        f"layers.{i}.self_attn.{name}"
        for i, layer in enumerate(spec.shape.layers)
        if layer.keys_from is not None
        for name in TAKEN_OVER
    }
    named: dict[str, Entry] = {}
    for name, entry in entries.items():
        if name not in unread:
            named |= split_experts(name, entry, source.shapes[entry.source_name])
    return named


class Gemma4UnifiedFamily(Gemma4Family):
    """`Gemma4UnifiedForCausalLM` (12B): no inputs for every layer. In GGUF it is a `gemma4` like the others."""

    name = "gemma4_unified"
    architectures = ("Gemma4UnifiedForCausalLM",)
    composites = ("Gemma4UnifiedForConditionalGeneration",)
    config = Gemma4UnifiedConfig
    gguf = None
    defaults: Mapping[str, Any] = {
        **Gemma4Family.defaults,
        "max_position_embeddings": 262144,
        "sliding_window": 1024,
        "hidden_size_per_layer_input": 0,
    }
