"""Confidences for drafters without a confidence head: estimated from their scores, and learned from while serving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from dspark_calibration.estimator import AcceptanceModel, design
from dspark_calibration.logistic import sigmoid
from dspark_calibration.sts import Scaling
from dspark_engines.arrays import Doubles, Floats, Ints

MEMORY = 512
"""Drafted blocks that are looked back on; older ones fade."""
TRUST = 256
"""Rounds that what was fitted counts as, at most: the rest of it is overruled by what is seen here."""
RIDGE = 1.0
"""Weight, in observations, of each parameter staying where it began, where nothing was fitted."""
FARTHEST = 4.0
"""How far a parameter moves from where it began, at most, in log-odds (for a weight: per unit of its score)."""
FLOOR = 0.05
"""Least variance that an outcome counts with: one surprise behind a certainty shall not move everything."""
OPTIMISTIC = 0.8
"""Acceptance of every position where nobody has measured any: high, so that drafts are verified and seen."""
UNSURE = 0.02
"""Measured acceptances are kept so far from 0 and 1."""


@dataclass(frozen=True)
class AcceptancePrior:
    """Where the parameters [g + S] begin, and how firmly: the precision [g + S, g + S] of a normal distribution."""

    mean: Doubles
    precision: Doubles
    block_size: int

    @classmethod
    def fitted(cls, model: AcceptanceModel) -> Self:
        """What `calibrate` found."""
        size = len(model.parameters)
        weight = min(model.rounds, TRUST)
        return cls(model.parameters, np.array(model.information) * weight + RIDGE * np.eye(size), len(model.biases))

    @classmethod
    def unfitted(cls, block_size: int, scores: int, survival: Sequence[float] = ()) -> Self:
        """Without a calibration: what each position's mean acceptance was, if some `survival` was measured."""
        mean = np.zeros(block_size + scores)
        acceptance = np.full(block_size, OPTIMISTIC)
        if len(survival) == block_size:
            before = np.maximum([1.0, *survival[:-1]], 1e-9)
            acceptance = np.clip(np.array(survival) / before, UNSURE, 1.0 - UNSURE)
        mean[:block_size] = np.log(acceptance / (1.0 - acceptance))
        return cls(mean, RIDGE * np.eye(block_size + scores), block_size)


class AcceptanceEstimator:
    """Confidence logits from scores, by a logistic model that follows what rounds show.

    Recursive Bayesian estimation with forgetting: a normal prior, and for every round the Gauss-Newton term of its
    likelihood. Labels are conditional, of positions that were verified and before which all was accepted. Which
    positions those are depends on the estimate, and on nothing else of the outcome, so they stay unbiased. What is not
    verified any more fades, and the prior comes back: a position that was given up is tried again.

    `scaling` is applied to the logits before they are used, so it is the scaled confidence that is made to fit.

    Lossless: a logit is a function of its own position's scores and of earlier rounds. `learn` is called when a round
    is verified. One instance serves one sequence of rounds, from one thread.
    """

    def __init__(self, prior: AcceptancePrior, scaling: Scaling | None = None) -> None:
        self._prior, self._mean = prior, prior.mean
        self._information = np.zeros_like(prior.precision)
        self._evidence = np.zeros_like(prior.mean)
        ones = np.ones(prior.block_size)
        self._slopes, self._offsets = ones, 0.0 * ones
        if scaling is not None:
            self._slopes, self._offsets = 1.0 / np.array(scaling.temperatures), np.array(scaling.offsets)

    @property
    def parameters(self) -> Doubles:
        """Biases [g], then weights [S], as they are now."""
        return self._mean

    def logits(self, scores: Floats) -> Floats:
        """[R, g] float32 of scores [R, g, S]; NaN where a score is."""
        return np.asarray(design(scores.astype(np.float64)) @ self._mean, np.float32)

    def learn(self, scores: Floats, verified: Ints, accepted: Ints) -> None:
        """Of a round of R blocks with scores [R, g, S], `verified` [R] tokens were verified and `accepted` [R] kept."""
        fading = (1.0 - 1.0 / MEMORY) ** len(scores)
        self._information *= fading
        self._evidence *= fading
        position = np.arange(self._prior.block_size)
        judged = position < np.minimum(accepted + 1, verified)[:, None]
        if judged.any():
            self._add(judged, design(scores.astype(np.float64)), position < accepted[:, None])
        precision = self._prior.precision + self._information
        mean = np.linalg.solve(precision, self._prior.precision @ self._prior.mean + self._evidence)
        self._mean = np.clip(mean, self._prior.mean - FARTHEST, self._prior.mean + FARTHEST)

    def _add(self, judged: np.ndarray, inputs: Doubles, kept: np.ndarray) -> None:
        """What the judged positions say: their Fisher information, and it times the parameters they speak for."""
        rows, positions = np.nonzero(judged)
        slopes = self._slopes[positions]
        inputs = inputs[rows, positions] * slopes[:, None]
        linear = inputs @ self._mean
        p = sigmoid(linear + self._offsets[positions])
        variance = np.maximum(p * (1.0 - p), FLOOR)
        self._information += (inputs * variance[:, None]).T @ inputs
        self._evidence += inputs.T @ (variance * linear + kept[rows, positions] - p)
