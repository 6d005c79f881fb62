"""How Gemma 4 rotates, target or drafter: "proportional" on full layers, whose slow pairs of channels do not turn."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from dspark_export.checkpoints.config_file import LayerType
from dspark_export.checkpoints.spec import RopeSpec

KINDS: tuple[LayerType, LayerType] = ("sliding_attention", "full_attention")


class Gemma4Rope(BaseModel):
    """One kind of layer's entry in `rope_parameters`."""

    model_config = ConfigDict(extra="ignore")

    rope_type: Literal["default", "proportional"]
    rope_theta: PositiveFloat
    partial_rotary_factor: float = Field(default=1.0, gt=0, le=1)
    factor: PositiveFloat = 1.0

    def spec(self, head_dim: int) -> RopeSpec:
        """For heads of this width. Pairs are half a head apart, whatever part of them turns."""
        if self.rope_type == "default":
            return RopeSpec(self.rope_theta)
        turning = int(self.partial_rotary_factor * head_dim // 2)
        still = (math.inf,) * (head_dim // 2 - turning)
        return RopeSpec(self.rope_theta, divisors=(self.factor,) * turning + still)


FULL = Gemma4Rope(rope_type="proportional", rope_theta=1e6, partial_rotary_factor=0.25)
SLIDING = Gemma4Rope(rope_type="default", rope_theta=1e4)
"""What a config means that has no `rope_parameters`."""


def entries_by_kind(value: Any) -> Any:
    """`rope_parameters` of a config without the flat keys of no meaning that releases have beside the kinds'."""
    return {kind: value[kind] for kind in KINDS if value.get(kind)} if isinstance(value, dict) else value
