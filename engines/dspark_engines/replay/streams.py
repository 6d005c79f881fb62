"""Rounds laid out as requests that advance together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dspark_calibration import Rounds
from dspark_calibration.metrics import prefix_survival
from dspark_engines.arrays import Doubles, Ints


class Streams(NamedTuple):
    """S steps of R rows. survival [S, R, g] float64, accepted [S, R] int64, request_ids [S, R] int64.

    Row r lives through one prompt after another, each prompt's rounds in their order. Lengths that a scheduler
    chooses do not change the rounds that follow: they are those of the trace, in which whole blocks were verified.
    """

    survival: Doubles
    accepted: Ints
    request_ids: Ints


def lay_out(rounds: Rounds, confidence: Doubles, rows: int) -> Streams:
    """`rows` streams of equal length out of `rounds` [n] and their confidences [n, g]; up to rows − 1 rounds are
    left over. Raises `ValueError` when there are fewer rounds than rows."""
    steps = len(rounds) // rows
    if not steps:
        raise ValueError(f"{len(rounds)} rounds for {rows} rows")
    place = np.arange(rows * steps).reshape(rows, steps).T
    survival = prefix_survival(confidence)
    # A prompt whose rounds straddle two rows is two requests.
    ids = rounds.prompt[place] * rows + np.arange(rows)
    return Streams(survival[place], rounds.accepted[place], ids)


def oracle(rounds: Rounds) -> Doubles:
    """Confidences [n, g] of someone who knows what will be accepted: 1 up to there, 0 behind."""
    return rounds.survived.astype(np.float64)
