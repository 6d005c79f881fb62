"""Temperatures with offsets, for drafters whose confidences are wrong by more than a temperature can mend.

Dividing a logit never moves a confidence across one half. When the first positions survive less often than that
while the head says more, the best temperature alone flattens everything to one half and is still wrong. An offset
in log-odds moves it. It is fitted by likelihood, not by calibration error, which a constant would make zero.
"""

from __future__ import annotations

import numpy as np

from dspark_calibration.arrays import Doubles
from dspark_calibration.logistic import sigmoid
from dspark_calibration.sts.apply import Scaling
from dspark_calibration.sts.fit import check_rounds
from dspark_calibration.traces.rounds import Rounds

STEPS, TOLERANCE = 50, 1e-9
PRIOR = 1.0
"""Weight, in rounds, of staying at temperature 1 and offset 0: late positions are reached rarely."""
STEEPEST, FLATTEST = 20.0, 0.01
"""Bounds of 1/T: the order of confidences is kept, and they are never spread without end."""


def fit_scaling(rounds: Rounds, block_size: int, bins: int = 20) -> Scaling:
    """Position by position from the left, T_j and b_j of greatest likelihood that the prefix survives to j with
    probability Π_{i≤j} σ(c_i/T_i + b_i), earlier ones fixed. Raises `CalibrationError` as `fit_sts` does."""
    check_rounds(rounds, block_size, bins)
    earlier, temperatures, offsets = np.ones(len(rounds)), [], []
    for j in range(block_size):
        logits, outcome = rounds.logits[:, j], rounds.survived[:, j].astype(np.float64)
        slope, offset = fit_product(earlier, logits, outcome)
        temperatures.append(1.0 / slope)
        offsets.append(offset)
        earlier = earlier * sigmoid(slope * logits + offset)
    return Scaling(tuple(temperatures), tuple(offsets))


def fit_product(earlier: Doubles, logits: Doubles, outcome: Doubles) -> tuple[float, float]:
    """(a, b) that maximise the likelihood of outcome [n] under earlier · σ(a·logits + b), by Fisher scoring."""
    inputs = np.stack([logits, np.ones(len(logits))])
    origin = np.array([1.0, 0.0])
    found, loss = origin, _loss(earlier, inputs, outcome, origin)
    for _ in range(STEPS):
        sigma = sigmoid(found @ inputs)
        p = np.clip(earlier * sigma, 1e-12, 1.0 - 1e-12)
        slope = earlier * sigma * (1.0 - sigma)
        gradient = inputs @ ((p - outcome) * slope / (p * (1.0 - p))) + PRIOR * (found - origin)
        fisher = (inputs * (slope**2 / (p * (1.0 - p)))) @ inputs.T + PRIOR * np.eye(2)
        step, scale = np.linalg.solve(fisher, gradient), 1.0
        while True:  # halve until it helps
            tried = found - scale * step
            tried[0] = np.clip(tried[0], FLATTEST, STEEPEST)
            new = _loss(earlier, inputs, outcome, tried)
            if new <= loss or scale < 1e-6:
                break
            scale *= 0.5
        if not loss - new > TOLERANCE * (1.0 + abs(loss)):
            break
        found, loss = tried, new
    return float(found[0]), float(found[1])


def _loss(earlier: Doubles, inputs: Doubles, outcome: Doubles, parameters: Doubles) -> float:
    p = np.clip(earlier * sigmoid(parameters @ inputs), 1e-12, 1.0 - 1e-12)
    likelihood = outcome * np.log(p) + (1.0 - outcome) * np.log1p(-p)
    away = parameters - np.array([1.0, 0.0])
    return float(0.5 * PRIOR * (away @ away) - likelihood.sum())
