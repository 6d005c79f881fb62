"""All scores of prefix survivals, position by position."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dspark_calibration.arrays import Doubles
from dspark_calibration.metrics.binning import ece, ece_equal_mass, prefix_survival
from dspark_calibration.metrics.scores import auroc, brier, log_loss
from dspark_calibration.traces.rounds import Rounds

DRAWS = 20


class PositionScores(NamedTuple):
    """Prefix survival at one position against what survived, and the position's own confidence (`own_`) against
    what was accepted among the rounds that got there. AUROC is None when all or nothing survived."""

    ece: float
    ece_equal_mass: float
    auroc: float | None
    brier: float
    log_loss: float
    own_ece: float
    own_auroc: float | None


def score_positions(confidence: Doubles, rounds: Rounds, bins: int = 20) -> list[PositionScores]:
    """Scores of `confidence` [n, g], each position's own σ(c_j/T_j), over `rounds`."""
    survival = prefix_survival(confidence)
    survived, scores = rounds.survived.astype(np.float64), []
    for j in range(rounds.block_size):
        p, y, here = survival[:, j], survived[:, j], rounds.reached[:, j]
        own, own_y = confidence[here, j], survived[here, j]
        scores.append(
            PositionScores(
                ece(p, y, bins),
                ece_equal_mass(p, y, bins),
                auroc(p, y),
                brier(p, y),
                log_loss(p, y),
                ece(own, own_y, bins),
                auroc(own, own_y),
            )
        )
    return scores


def mean_ece(confidence: Doubles, rounds: Rounds, bins: int = 20) -> float:
    """Mean over positions of the expected calibration error of the prefix survival."""
    survival, survived = prefix_survival(confidence), rounds.survived.astype(np.float64)
    return float(np.mean([ece(survival[:, j], survived[:, j], bins) for j in range(rounds.block_size)]))


def noise_floor(confidence: Doubles, bins: int = 20, seed: int = 0) -> float:
    """`mean_ece` that perfectly calibrated confidences [n, g] would show by chance with so many rounds: the mean
    over draws of outcomes from the confidences themselves. No fit can be expected to come out below it."""
    random, survival, found = np.random.default_rng(seed), prefix_survival(confidence), []
    for _ in range(DRAWS):
        survived = np.logical_and.accumulate(random.random(confidence.shape) < confidence, axis=1).astype(np.float64)
        found += [ece(survival[:, j], survived[:, j], bins) for j in range(confidence.shape[1])]
    return float(np.mean(found)) if found else 0.0
