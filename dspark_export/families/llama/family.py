"""Llama: pre-norm decoder layers with grouped-query attention and a SwiGLU MLP."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import DecoderShape, TargetSpec, Weights
from dspark_export.checkpoints.config_file import DecoderConfig
from dspark_export.checkpoints.seams import GgufLayout, TargetFamily
from dspark_export.families.llama.gguf import LLAMA

COMMON_DEFAULTS: dict[str, Any] = {"rope_theta": 10000.0, "rms_norm_eps": 1e-6, "hidden_act": "silu"}


def refuse_windows(config: DecoderConfig, path: Path, what: str) -> None:
    """Raises `CheckpointError` where a config asks for windows that models of its class do not have."""
    if config.use_sliding_window or "sliding_attention" in (config.layer_types or ()):
        raise CheckpointError(
            f"{path}: asks for sliding windows, and {what} has none in transformers",
            hint="correct `architectures`, or take use_sliding_window and layer_types out",
        )


class LlamaFamily(TargetFamily):
    """`LlamaForCausalLM`, and `llama` in GGUF."""

    name = "llama"
    architectures: tuple[str, ...] = ("LlamaForCausalLM",)
    gguf: GgufLayout | None = LLAMA
    defaults: Mapping[str, Any] = COMMON_DEFAULTS | {"max_position_embeddings": 2048}

    def read_shape(self, config: DecoderConfig, path: Path) -> DecoderShape:
        refuse_windows(config, path, "Llama")
        return config.decoder_shape(path, qkv_bias=config.attention_bias, output_bias=config.attention_bias)

    def build_graph(self, spec: TargetSpec, weights: Weights, taps: tuple[int, ...], positions: int) -> Any:
        from dspark_export.graphs import build_target_graph

        return build_target_graph(spec, weights, taps, positions)

    def build_oracle(self, spec: TargetSpec, weights: Weights) -> Any:
        from dspark_export.parity import TargetModule

        return TargetModule(spec, weights)
