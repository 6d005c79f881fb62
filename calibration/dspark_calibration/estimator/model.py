"""The logistic model of acceptance: a bias for each position, a weight for each score."""

from __future__ import annotations

from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from dspark_calibration.arrays import Doubles

MOST = 20.0
"""Scores are taken to lie between this and its negative: a log-probability may be infinite."""


class AcceptanceModel(BaseModel):
    """P(token j accepted | all before it accepted) = σ(biases[j] + Σ weights[s] · scores[j, s]).

    `scores` names the S scores of a position. `information` [g + S, g + S] is what a round says of the parameters,
    biases first: the mean Fisher information of the `rounds` that were fitted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    scores: list[str] = Field(min_length=1)
    biases: list[float] = Field(min_length=1)
    weights: list[float]
    information: list[list[float]]
    rounds: PositiveInt

    @model_validator(mode="after")
    def _sizes(self) -> Self:
        size = len(self.biases) + len(self.scores)
        if len(self.weights) != len(self.scores):
            raise ValueError(f"not one weight for each of {len(self.scores)} scores")
        if [len(row) for row in self.information] != [size] * size:
            raise ValueError(f"information is not {size} x {size}")
        return self

    @property
    def parameters(self) -> Doubles:
        """Biases, then weights: what `design` is multiplied by."""
        return np.array([*self.biases, *self.weights])

    def logits(self, scores: Doubles) -> Doubles:
        """Confidence logits [n, g] of scores [n, g, S]; NaN where a score is."""
        return np.asarray(design(scores) @ self.parameters)


def design(scores: Doubles) -> Doubles:
    """[n, g, g + S] float64: which position it is, and its scores [n, g, S], bounded."""
    n, g, s = scores.shape
    made = np.empty((n, g, g + s))
    made[..., :g] = np.eye(g)
    np.clip(scores, -MOST, MOST, out=made[..., g:])
    return made
