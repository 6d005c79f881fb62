"""calibration/sts.json: temperatures, and what they were fitted on (schema version 1)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from dspark_calibration.estimator.model import AcceptanceModel
from dspark_calibration.sts.apply import Scaling


class EceInterval(BaseModel):
    """What the error after calibration is between, in 95 of 100 samples of so many rounds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rounds: PositiveInt
    low: NonNegativeFloat
    high: NonNegativeFloat


class StsCalibration(BaseModel):
    """Confidence at position j is σ(c_j / temperatures[j] + offsets[j]), c_j the drafter's raw logit, or that of the
    `estimator` where the drafter has no confidence head.

    `sts_temperatures` are those of sequential temperature scaling, without offsets: the same as `temperatures` when
    all offsets are 0. `bundle` is the identity of the engines that it belongs to, `block_size` its γ. The errors
    are means over positions, on prompts that were not fitted. `expected` says what to expect of new prompts, for
    samples of falling size.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    schema_version: Literal[1] = 1
    bundle: str = Field(pattern="^[0-9a-f]{64}$")
    backend: str
    block_size: PositiveInt
    temperatures: list[PositiveFloat]
    offsets: list[float]
    sts_temperatures: list[PositiveFloat]
    low: list[PositiveFloat]
    high: list[PositiveFloat]
    """95% interval of each of `sts_temperatures`, by bootstrap over prompts."""
    bins: PositiveInt
    fit_rounds: NonNegativeInt
    validation_rounds: NonNegativeInt
    ece_before: NonNegativeFloat
    ece_after: NonNegativeFloat
    expected: list[EceInterval] = Field(min_length=1)
    survival: list[NonNegativeFloat] = []
    """How often a draft survived up to each position; empty in files of before it was kept."""
    spread: NonNegativeFloat = 0.0
    """Standard deviation, between prompts, of the draft tokens accepted a round."""
    estimator: AcceptanceModel | None = None
    """What estimates confidences before anything was seen while serving; None where the drafter gives them."""
    prompts_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    max_new_tokens: PositiveInt
    temperature: NonNegativeFloat
    seed: NonNegativeInt

    @model_validator(mode="after")
    def _one_a_position(self) -> Self:
        lists = (self.temperatures, self.offsets, self.sts_temperatures, self.low, self.high)
        if {len(values) for values in lists} != {self.block_size}:
            raise ValueError(f"not one temperature for each of {self.block_size} positions")
        if self.survival and len(self.survival) != self.block_size:
            raise ValueError(f"not one survival for each of {self.block_size} positions")
        if self.estimator is not None and len(self.estimator.biases) != self.block_size:
            raise ValueError(f"not one bias for each of {self.block_size} positions")
        return self

    @property
    def scaling(self) -> Scaling:
        """What is applied."""
        return Scaling(tuple(self.temperatures), tuple(self.offsets))

    @property
    def has_offsets(self) -> bool:
        """Whether temperatures alone were not enough."""
        return any(self.offsets)
