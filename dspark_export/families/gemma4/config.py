"""Gemma 4's config.json: layers of two kinds, each with its own heads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import DecoderShape, ExpertSpec, LayerSpec
from dspark_export.checkpoints.config_file import DecoderConfig, LayerType
from dspark_export.checkpoints.gemma4_rope import FULL, KINDS, SLIDING, Gemma4Rope, entries_by_kind

PATTERN = 6
"""One layer in so many sees everything where the config does not say."""


class LayerOverride(BaseModel):
    """What transformers 5.24 and later say of a layer that differs from the others."""

    model_config = ConfigDict(extra="forbid")

    head_dim: PositiveInt | None = None
    num_key_value_heads: PositiveInt | None = None


class Gemma4Config(DecoderConfig):
    """`Gemma4TextConfig`."""

    hidden_act: Literal["silu"] = "silu"  # not a key of Gemma's
    hidden_activation: Literal["gelu_pytorch_tanh"]
    rope_parameters: dict[LayerType, Gemma4Rope] | None = None  # type: ignore[assignment]
    rope_scaling: None = None
    global_head_dim: PositiveInt
    num_global_key_value_heads: PositiveInt | None = None
    per_layer_config: dict[NonNegativeInt, LayerOverride] | None = None
    attention_k_eq_v: bool
    num_kv_shared_layers: NonNegativeInt
    use_double_wide_mlp: bool
    enable_moe_block: bool
    num_experts: PositiveInt | None = None
    top_k_experts: PositiveInt | None = None
    moe_intermediate_size: PositiveInt | None = None
    hidden_size_per_layer_input: NonNegativeInt | None
    vocab_size_per_layer_input: PositiveInt
    final_logit_softcapping: PositiveFloat | None = None
    use_bidirectional_attention: Literal["vision"] | None = None

    @field_validator("rope_parameters", mode="before")
    @classmethod
    def _by_kind(cls, value: Any) -> Any:
        return entries_by_kind(value)

    def gemma4_shape(self, path: Path) -> DecoderShape:
        """Raises `CheckpointError` where layers take over keys of a kind that no earlier layer has."""
        types = list(self.layer_types or [KINDS[(i + 1) % PATTERN == 0] for i in range(self.num_hidden_layers)])
        if types:
            types[-1] = "full_attention"  # as its class has it, whatever the config says
        typed = self.model_copy(update={"layer_types": types, "use_sliding_window": True})
        windows = typed.windows(path)
        experts = self._experts(path)
        layers = [replace(self._layer(path, i, window), experts=experts) for i, window in enumerate(windows)]
        shared = self._share(path, layers)
        return DecoderShape(hidden_size=self.hidden_size, rms_norm_eps=self.rms_norm_eps, layers=tuple(shared))

    def _layer(self, path: Path, i: int, window: int) -> LayerSpec:
        head_dim, kv_heads = self._heads(i, full=not window)
        given = self.model_copy(update={"head_dim": head_dim, "num_key_value_heads": kv_heads})
        rope = (self.rope_parameters or {}).get(KINDS[not window], SLIDING if window else FULL)
        return given.layer(
            path,
            rope.spec(head_dim),
            qk_norm=True,
            window=window,
            scale=1.0,
            qkv_bias=self.attention_bias,
            output_bias=self.attention_bias,
            activation="gelu_tanh",
            sandwich=True,
            value_norm=True,
            shared_values=self.attention_k_eq_v and not window,
            per_layer_input=self.hidden_size_per_layer_input or 0,
            layer_scalar=True,
        )

    def _experts(self, path: Path) -> ExpertSpec | None:
        """What stands beside every layer's MLP. Raises `CheckpointError` where a key of it is missing or too large."""
        if not self.enable_moe_block:
            return None
        keys = ("num_experts", "top_k_experts", "moe_intermediate_size")
        missing = next((key for key in keys if getattr(self, key) is None), None)
        if missing:
            raise CheckpointError(
                f"{path}: enable_moe_block is true, and there is no {missing}",
                hint="correct the config, or fetch it again",
            )
        count, taken, width = (getattr(self, key) for key in keys)
        if taken > count:
            raise CheckpointError(
                f"{path}: top_k_experts is {taken}, and there are {count} experts",
                hint="correct the config, or fetch it again",
            )
        return ExpertSpec(count=count, per_token=taken, renormalised=True, parallel_width=width)

    def _heads(self, i: int, *, full: bool) -> tuple[int, int]:
        """Width of a head, and how many of them keys have."""
        width, count = self.head_dim or 0, self.num_key_value_heads or self.num_attention_heads
        if self.per_layer_config is not None:
            own = self.per_layer_config.get(i, LayerOverride())
            return own.head_dim or width, own.num_key_value_heads or count
        if not full:
            return width, count
        return self.global_head_dim, (self.num_global_key_value_heads if self.attention_k_eq_v else None) or count

    def _share(self, path: Path, layers: list[LayerSpec]) -> list[LayerSpec]:
        """The last layers take keys and values from the last one of their kind before them."""
        first = len(layers) - self.num_kv_shared_layers
        wide = 2 if self.use_double_wide_mlp else 1
        found = layers[: max(first, 0)]
        for layer in layers[len(found) :]:
            owner = next((i for i in range(len(found[:first]) - 1, -1, -1) if found[i].window == layer.window), None)
            if owner is None:
                raise CheckpointError(
                    f"{path}: num_kv_shared_layers is {self.num_kv_shared_layers}, and no layer before them is "
                    "of a kind that they share",
                    hint="correct the config, or fetch it again",
                )
            found.append(replace(layer, keys_from=owner, intermediate_size=wide * layer.intermediate_size))
        return found


class Gemma4UnifiedConfig(Gemma4Config):
    """`Gemma4UnifiedTextConfig`."""

    enable_moe_block: Literal[False]
    hidden_size_per_layer_input: Literal[0] | None
