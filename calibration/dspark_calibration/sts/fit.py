"""Temperatures from rounds that verified their whole block."""

from __future__ import annotations

import numpy as np

from dspark_calibration.arrays import Doubles
from dspark_calibration.errors import CalibrationError
from dspark_calibration.logistic import sigmoid
from dspark_calibration.sts.search import search
from dspark_calibration.traces.rounds import Rounds

ROUNDS_PER_BIN = 10


def rounds_needed(bins: int) -> int:
    """Fewest rounds that a fit or a validation with so many bins makes sense with."""
    return ROUNDS_PER_BIN * bins


def fit_sts(rounds: Rounds, block_size: int, bins: int = 20) -> list[float]:
    """Sequential temperature scaling: position by position from the left, the T_j that minimises the expected
    calibration error of Π_{i≤j} σ(c_i/T_i) as the probability that the prefix survives to j, earlier ones fixed.

    Raises `CalibrationError` for rounds of another block size, too few of them, or confidences that are NaN.
    """
    check_rounds(rounds, block_size, bins)
    return fit_products(rounds.logits, rounds.survived.astype(np.float64), bins)


def fit_products(logits: Doubles, survived: Doubles, bins: int) -> list[float]:
    """`fit_sts` on arrays [n, g]; `survived` may also be expected values."""
    earlier, temperatures = np.ones(len(logits)), []
    for column, outcome in zip(logits.T, survived.T, strict=True):
        own = np.ascontiguousarray(column)
        temperatures.append(search(earlier, own, np.ascontiguousarray(outcome), bins))
        earlier = earlier * sigmoid(own / temperatures[-1])
    return temperatures


def fit_positions(rounds: Rounds, block_size: int, bins: int = 20) -> list[float]:
    """Plain per-position scaling, for comparison: each T_j makes σ(c_j/T_j) fit the acceptance at j among the
    rounds that got there, on its own. What is left of the errors multiplies along the block."""
    check_rounds(rounds, block_size, bins)
    temperatures = []
    for j in range(block_size):
        here = rounds.reached[:, j]
        outcome = rounds.survived[here, j].astype(np.float64)
        temperatures.append(search(np.ones(len(outcome)), rounds.logits[here, j], outcome, bins))
    return temperatures


def check_rounds(rounds: Rounds, block_size: int, bins: int) -> None:
    """Raises `CalibrationError` for what no fit may be made of. Shorter rounds never get into `Rounds`."""
    if rounds.block_size != block_size:
        raise CalibrationError(
            f"these rounds are of blocks of {rounds.block_size}, the drafter's block is {block_size}",
            hint="calibrate with traces of this bundle",
        )
    if np.isnan(rounds.logits).any():
        raise CalibrationError("confidences are NaN", hint="check the bundle: dspark-export check")
    if ((rounds.accepted < 0) | (rounds.accepted > block_size)).any():
        raise CalibrationError("rounds accept more than a block", hint="delete the traces and make them again")
    if len(rounds) < rounds_needed(bins):
        raise CalibrationError(
            f"{len(rounds)} rounds that verified the whole block, at least {rounds_needed(bins)} are needed "
            f"for {bins} bins",
            hint="trace more prompts or more tokens a prompt, or use fewer --bins",
        )
