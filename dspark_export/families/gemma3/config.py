"""Gemma 3's config.json, in its older form and in that of transformers 5."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import PositiveFloat, PositiveInt, field_validator

from dspark_export.checkpoints import DecoderShape, RopeSpec
from dspark_export.checkpoints.config_file import DecoderConfig, LayerType
from dspark_export.checkpoints.rope_config import RopeConfig

FULL: LayerType = "full_attention"
SLIDING: LayerType = "sliding_attention"
PATTERN = 6
"""One layer in so many sees everything where the config does not say; llama.cpp's loader takes it for granted."""


class Gemma3Config(DecoderConfig):
    """`Gemma3TextConfig`. `rope_scaling` and `rope_theta` are those of full layers."""

    hidden_act: Literal["silu"] = "silu"  # not a key of Gemma's
    hidden_activation: Literal["gelu_pytorch_tanh"]
    rope_parameters: dict[LayerType, RopeConfig | None] | None = None  # type: ignore[assignment]
    rope_theta: PositiveFloat
    rope_local_base_freq: PositiveFloat
    query_pre_attn_scalar: PositiveFloat
    sliding_window_pattern: PositiveInt = PATTERN
    final_logit_softcapping: PositiveFloat | None = None
    attn_logit_softcapping: None = None  # transformers applies none in this class, so another value is not followed
    use_bidirectional_attention: Literal[False] | None = None

    @field_validator("rope_scaling", mode="before")
    @classmethod
    def _nothing(cls, value: Any) -> Any:
        return value or None  # as transformers takes an empty one

    def gemma3_shape(self, path: Path) -> DecoderShape:
        """Full layers and sliding ones, as `layer_types` says or every sixth from the end of the pattern."""
        types = self.layer_types or [
            SLIDING if (i + 1) % self.sliding_window_pattern else FULL for i in range(self.num_hidden_layers)
        ]
        typed = self.model_copy(update={"layer_types": types, "use_sliding_window": True})
        full = self.layer(
            path,
            self._rope_of(FULL, self.rope_theta),
            qk_norm=True,
            qkv_bias=self.attention_bias,
            output_bias=self.attention_bias,
            scale=self.query_pre_attn_scalar**-0.5,
            activation="gelu_tanh",
            sandwich=True,
        )
        sliding = replace(full, rope=self._rope_of(SLIDING, self.rope_local_base_freq))
        layers = tuple(replace(sliding, window=window) if window else full for window in typed.windows(path))
        return DecoderShape(hidden_size=self.hidden_size, rms_norm_eps=self.rms_norm_eps, layers=layers)

    def _rope_of(self, kind: LayerType, theta: float) -> RopeSpec:
        rope = (self.rope_parameters or {}).get(kind) or RopeConfig()
        if kind == FULL and self.rope_scaling is not None:
            rope = self.rope_scaling
        return rope.spec(rope.rope_theta or theta, self.max_position_embeddings)
