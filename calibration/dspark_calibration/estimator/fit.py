"""The model of greatest likelihood, from rounds that verified their whole block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dspark_calibration.arrays import Doubles
from dspark_calibration.errors import CalibrationError
from dspark_calibration.estimator.model import AcceptanceModel, design
from dspark_calibration.logistic import sigmoid
from dspark_calibration.traces.rounds import Rounds

RIDGE = 1.0
"""Weight, in observations, of every parameter being 0: late positions are reached rarely."""
STEPS, TOLERANCE = 50, 1e-10


def fit_acceptance(rounds: Rounds, names: Sequence[str]) -> AcceptanceModel:
    """Logistic regression, L2-regularised, on the positions that were reached: those before which all was accepted.

    By Newton's method. Raises `CalibrationError` for rounds without scores of these `names`, or without any round.
    """
    if rounds.scores is None or rounds.scores.shape[-1] != len(names):
        raise CalibrationError(
            f"the traces have no scores ({', '.join(names)})", hint="trace again: pass --overwrite to begin again"
        )
    if not len(rounds):
        raise CalibrationError("no round verified its whole block", hint="trace more prompts, or more tokens a prompt")
    inputs, outcome = design(rounds.scores)[rounds.reached], rounds.survived[rounds.reached].astype(np.float64)
    found = maximise(inputs, outcome)
    p = sigmoid(inputs @ found)
    information = (inputs * (p * (1.0 - p))[:, None]).T @ inputs / len(rounds)
    g = rounds.block_size
    return AcceptanceModel(
        scores=list(names),
        biases=found[:g].tolist(),
        weights=found[g:].tolist(),
        information=information.tolist(),
        rounds=len(rounds),
    )


def maximise(inputs: Doubles, outcome: Doubles) -> Doubles:
    """Parameters [d] of greatest penalised likelihood of outcome [k] under σ(inputs [k, d] @ parameters)."""
    found = np.zeros(inputs.shape[1])
    loss = _loss(inputs, outcome, found)
    for _ in range(STEPS):
        p = sigmoid(inputs @ found)
        gradient = inputs.T @ (p - outcome) + RIDGE * found
        curvature = (inputs * (p * (1.0 - p))[:, None]).T @ inputs + RIDGE * np.eye(len(found))
        step, scale = np.linalg.solve(curvature, gradient), 1.0
        while (new := _loss(inputs, outcome, found - scale * step)) > loss and scale > 1e-6:  # halve until it helps
            scale *= 0.5
        gained = loss - new
        if gained >= 0.0:
            found, loss = found - scale * step, new
        if not gained > TOLERANCE * (1.0 + abs(loss)):
            break
    return found


def estimated(rounds: Rounds, model: AcceptanceModel | None) -> Rounds:
    """`rounds` with the model's confidence logits in place of the drafter's; as they are without a model."""
    if model is None or rounds.scores is None:
        return rounds
    return replace(rounds, logits=model.logits(rounds.scores))


def _loss(inputs: Doubles, outcome: Doubles, parameters: Doubles) -> float:
    logits = inputs @ parameters
    return float(np.logaddexp(0.0, logits).sum() - outcome @ logits + 0.5 * RIDGE * (parameters @ parameters))
