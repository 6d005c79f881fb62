"""What config.json of any of DeepSpec's drafters says: the target's keys, cut down to the drafter, and its taps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import PositiveFloat, PositiveInt, field_validator, model_validator

from dspark_export.checkpoints.config_file import LayerType, UniformConfig
from dspark_export.checkpoints.gemma4_rope import FULL, Gemma4Rope, entries_by_kind
from dspark_export.checkpoints.spec import DecoderShape, RopeSpec


class DeepSpecLayers(UniformConfig):
    """Keys of a drafter's layers and of the target's layers that it taps.

    What the copy says of windows and of heads that are turned in part describes the target: only `layer_types` tells
    windows.
    """

    num_key_value_heads: PositiveInt
    num_target_layers: PositiveInt
    target_layer_ids: list[int]
    layer_types: list[Literal["full_attention"]]
    use_sliding_window: bool = False  # type: ignore[assignment]  # the target's
    partial_rotary_factor: float = 1.0

    @field_validator("target_layer_ids")
    @classmethod
    def _taps(cls, taps: list[int]) -> list[int]:
        if not taps or taps != sorted(set(taps)) or taps[0] < -1:
            raise ValueError("target_layer_ids must be a non-empty, strictly rising list of layers from -1 up")
        return taps

    @model_validator(mode="after")
    def _layers(self) -> Self:
        if self.target_layer_ids[-1] >= self.num_target_layers - 1:
            raise ValueError(
                f"target_layer_ids taps layer {self.target_layer_ids[-1]}, the target's final layer is "
                f"{self.num_target_layers - 1} and cannot be tapped (its hidden state is returned after the norm)"
            )
        if len(self.layer_types) != self.num_hidden_layers:
            raise ValueError(
                f"layer_types names {len(self.layer_types)} layers, num_hidden_layers is {self.num_hidden_layers}"
            )
        return self

    def drafter_shape(self, path: Path) -> DecoderShape:
        """The layers. Raises `CheckpointError` where heads do not divide or rope has no base."""
        return self.decoder_shape(path, qk_norm=True)

    def facts(self) -> dict[str, Any]:
        """What else of `DrafterSpec` the architecture has; scales are not rounded."""
        return {}


class Qwen3Layers(DeepSpecLayers):
    """Qwen3's: whole heads are turned."""

    @field_validator("rope_parameters", "rope_scaling", mode="before")
    @classmethod
    def _whole_heads(cls, rope: Any) -> Any:
        """transformers' Qwen3RotaryEmbedding asks for a part of the head where rotation is scaled, and only there."""
        if not isinstance(rope, dict) or rope.get("rope_type", rope.get("type", "default")) != "default":
            return rope
        return {key: value for key, value in rope.items() if key != "partial_rotary_factor"}

    @model_validator(mode="after")
    def _turned_whole(self) -> Self:
        rope = self.rope_scaling or self.rope_parameters
        if self.partial_rotary_factor != 1 and rope is not None and rope.rope_type != "default":
            raise ValueError(
                f"partial_rotary_factor is {self.partial_rotary_factor}, with rope_type '{rope.rope_type}'"
            )
        return self


class Gemma4Layers(DeepSpecLayers):
    """Gemma 4's: every layer is a full one, with the heads of those."""

    hidden_act: Literal["silu"] = "silu"  # not a key of Gemma's
    hidden_activation: Literal["gelu_pytorch_tanh"]
    rope_parameters: dict[LayerType, Gemma4Rope] | None = None  # type: ignore[assignment]
    rope_scaling: None = None
    global_head_dim: PositiveInt
    attention_k_eq_v: bool
    num_global_key_value_heads: PositiveInt | None = None
    enable_moe_block: Literal[False]
    hidden_size_per_layer_input: Literal[0]
    use_double_wide_mlp: Literal[False] = False
    final_logit_softcapping: PositiveFloat | None = None

    @field_validator("rope_parameters", mode="before")
    @classmethod
    def _full(cls, value: Any) -> Any:
        entries = entries_by_kind(value)
        if isinstance(entries, dict) and "full_attention" not in entries:
            raise ValueError("has no entry 'full_attention', which says how the layers are rotated")
        return entries

    @model_validator(mode="after")
    def _heads(self) -> Self:
        if self.attention_k_eq_v and self.num_global_key_value_heads is None:
            raise ValueError("missing key 'num_global_key_value_heads'")
        return self

    def rope(self, path: Path) -> RopeSpec:
        """That of full layers, over heads of their width."""
        del path
        return (self.rope_parameters or {}).get("full_attention", FULL).spec(self.global_head_dim)

    def drafter_shape(self, path: Path) -> DecoderShape:
        kv_heads = self.num_global_key_value_heads if self.attention_k_eq_v else self.num_key_value_heads
        given = self.model_copy(update={"head_dim": self.global_head_dim, "num_key_value_heads": kv_heads})
        return given.decoder_shape(
            path,
            qk_norm=True,
            scale=1.0,
            activation="gelu_tanh",
            sandwich=True,
            value_norm=True,
            shared_values=self.attention_k_eq_v,
            layer_scalar=True,
        )

    def facts(self) -> dict[str, Any]:
        scale = math.sqrt(self.hidden_size)
        return {"embedding_scale": scale, "logit_softcap": self.final_logit_softcapping or 0.0}
