"""Qwen3-MoE: Qwen3's attention, and in most layers a mixture of experts for the MLP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import NonNegativeInt, PositiveInt

from dspark_export.checkpoints import DecoderShape, LayerSpec, TargetSpec
from dspark_export.checkpoints.config_file import DecoderConfig
from dspark_export.checkpoints.expert_config import ExpertConfig
from dspark_export.checkpoints.stacked import stack_experts
from dspark_export.checkpoints.tensors import Entry, TensorSource
from dspark_export.families.llama import COMMON_DEFAULTS
from dspark_export.families.qwen3 import Qwen3Family
from dspark_export.families.qwen3_moe.gguf import QWEN3_MOE, qwen3_moe_layers

if TYPE_CHECKING:
    from dspark_export.checkpoints.gguf_file import GgufFile


class Qwen3MoeConfig(ExpertConfig):
    """`Qwen3MoeConfig`: which layers have experts, and how wide they are."""

    moe_intermediate_size: PositiveInt
    norm_topk_prob: bool
    decoder_sparse_step: PositiveInt
    mlp_only_layers: list[NonNegativeInt] | None = None

    def with_experts(self, path: Path, layers: tuple[LayerSpec, ...]) -> tuple[LayerSpec, ...]:
        """`layers`, some of them with experts."""
        experts = self.expert_spec(path, renormalised=self.norm_topk_prob)
        return tuple(
            replace(layer, intermediate_size=self.moe_intermediate_size, experts=experts) if self._sparse(i) else layer
            for i, layer in enumerate(layers)
        )

    def _sparse(self, i: int) -> bool:
        return i not in (self.mlp_only_layers or ()) and (i + 1) % self.decoder_sparse_step == 0


class Qwen3MoeFamily(Qwen3Family):
    """`Qwen3MoeForCausalLM`, and `qwen3moe` in GGUF."""

    name = "qwen3_moe"
    architectures = ("Qwen3MoeForCausalLM",)
    config = Qwen3MoeConfig
    gguf = QWEN3_MOE
    defaults: Mapping[str, Any] = COMMON_DEFAULTS | {
        "max_position_embeddings": 32768,
        "num_key_value_heads": 4,
        "num_local_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
        "norm_topk_prob": False,
        "decoder_sparse_step": 1,
        "sliding_window": 4096,
    }

    def read_shape(self, config: DecoderConfig, path: Path) -> DecoderShape:
        assert isinstance(config, Qwen3MoeConfig)
        windows = (config.sliding_window or 0,) * config.num_hidden_layers if config.use_sliding_window else ()
        biased = config.attention_bias
        shape = config.decoder_shape(path, windows, qk_norm=True, qkv_bias=biased, output_bias=biased)
        return replace(shape, layers=config.with_experts(path, shape.layers))

    def hf_entries(
        self, path: Path, spec: TargetSpec, entries: Mapping[str, Entry], source: TensorSource
    ) -> tuple[Mapping[str, Entry], TensorSource]:
        del spec
        renamed = {name.replace(".mlp.gate.weight", ".mlp.router.weight"): entry for name, entry in entries.items()}
        return stack_experts(path, renamed, source)

    def gguf_layers(self, file: GgufFile, layers: tuple[LayerSpec, ...]) -> tuple[LayerSpec, ...]:
        return qwen3_moe_layers(file, layers)
