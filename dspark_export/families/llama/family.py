"""Llama: pre-norm decoder layers with grouped-query attention and a SwiGLU MLP."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dspark_export.checkpoints import DecoderShape, TargetSpec, Weights
from dspark_export.checkpoints.config_file import DecoderConfig
from dspark_export.checkpoints.seams import GgufLayout, TargetFamily
from dspark_export.families.llama.gguf import LLAMA

COMMON_DEFAULTS: dict[str, Any] = {"rope_theta": 10000.0, "rms_norm_eps": 1e-6, "hidden_act": "silu"}


class LlamaFamily(TargetFamily):
    """`LlamaForCausalLM`, and `llama` in GGUF."""

    name = "llama"
    architectures = ("LlamaForCausalLM",)
    gguf: GgufLayout | None = LLAMA
    defaults: Mapping[str, Any] = COMMON_DEFAULTS | {"max_position_embeddings": 2048}

    def read_shape(self, config: DecoderConfig, path: Path) -> DecoderShape:
        return config.decoder_shape(path, qk_norm=False)

    def build_graph(self, spec: TargetSpec, weights: Weights, taps: tuple[int, ...], positions: int) -> Any:
        from dspark_export.graphs import build_target_graph

        return build_target_graph(spec, weights, taps, positions)

    def build_oracle(self, spec: TargetSpec, weights: Weights) -> Any:
        from dspark_export.parity import TargetModule

        return TargetModule(spec, weights)
