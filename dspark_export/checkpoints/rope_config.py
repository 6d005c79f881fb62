"""Rotary embedding in a Hugging Face config: `rope_scaling` (older) or `rope_parameters` (newer), as transformers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from dspark_export.checkpoints.spec import RopeKind, RopeSpec

ConfigKind = Literal["default", "linear", "dynamic", "llama3", "yarn"]
KINDS: dict[ConfigKind, RopeKind] = {
    "default": "default",
    "linear": "linear",
    "dynamic": "default",  # it changes nothing up to max_position_embeddings, and no bundle goes beyond
    "llama3": "llama3",
    "yarn": "yarn",
}
REQUIRED: dict[ConfigKind, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": ("factor",),
}
WRITTEN: dict[RopeKind, tuple[str, ...]] = {
    "default": (),
    "linear": REQUIRED["linear"],
    "llama3": REQUIRED["llama3"],
    "yarn": ("factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "truncate", "attention_factor"),
}


class RopeConfig(BaseModel):
    """One dictionary of parameters; a factor of null is left to the two lengths, as for DeepSeek's models."""

    model_config = ConfigDict(extra="ignore")

    rope_type: ConfigKind = Field(
        default="default",
        validation_alias=AliasChoices("rope_type", "type"),  # `type` in the oldest configs
    )
    rope_theta: PositiveFloat | None = None
    partial_rotary_factor: float = Field(default=1.0, ge=1.0, le=1.0)
    factor: PositiveFloat | None = None
    low_freq_factor: PositiveFloat = 1.0
    high_freq_factor: PositiveFloat = 4.0
    original_max_position_embeddings: PositiveInt | None = None
    beta_fast: PositiveFloat | None = None
    beta_slow: PositiveFloat | None = None
    truncate: bool = True
    attention_factor: PositiveFloat | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = [key for key in REQUIRED[self.rope_type] if key not in self.model_fields_set]
        if missing:
            raise ValueError(f"rope_type '{self.rope_type}' needs the key '{missing[0]}'")
        return self

    def spec(self, theta: float, max_positions: int) -> RopeSpec:
        """Normalised; `max_positions` stands for the original length where the config names none."""
        original = self.original_max_position_embeddings or max_positions
        factor, kind = self.factor or max_positions / original, KINDS[self.rope_type]
        plain = RopeSpec(theta, kind)
        if kind == "default":
            return plain
        if kind == "linear":
            return replace(plain, factor=factor)
        scaled = replace(plain, factor=factor, original_max_positions=original)
        if kind == "llama3":
            return replace(scaled, low_freq_factor=self.low_freq_factor, high_freq_factor=self.high_freq_factor)
        return replace(
            scaled,
            beta_fast=self.beta_fast or plain.beta_fast,
            beta_slow=self.beta_slow or plain.beta_slow,
            truncate=self.truncate,
            attention_factor=self._attention_factor(factor),
        )

    def _attention_factor(self, factor: float) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:
            return yarn_magnitude(factor, self.mscale) / yarn_magnitude(factor, self.mscale_all_dim)
        return yarn_magnitude(factor, 1.0)


def yarn_magnitude(factor: float, weight: float) -> float:
    """Equation 22 of YaRN's paper."""
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def rope_keys(rope: RopeSpec) -> dict[str, Any]:
    """The dictionary that reads back to `rope`."""
    keys: dict[str, Any] = {"rope_type": rope.kind, "rope_theta": rope.theta}
    values = {
        "factor": rope.factor,
        "low_freq_factor": rope.low_freq_factor,
        "high_freq_factor": rope.high_freq_factor,
        "original_max_position_embeddings": rope.original_max_positions,
        "beta_fast": rope.beta_fast,
        "beta_slow": rope.beta_slow,
        "truncate": rope.truncate,
        "attention_factor": rope.attention_factor,
    }
    return keys | {key: values[key] for key in WRITTEN[rope.kind]}
