"""What a replay found."""

from __future__ import annotations

from typing import NamedTuple

from dspark_engines.arrays import Ints
from dspark_engines.measured import StepCost
from dspark_engines.replay.streams import Streams


class ReplayOutcome(NamedTuple):
    """Means over all rounds of one scheduler at one load.

    realised: tokens per second that the traced acceptances give; expected: what the confidences promised;
    verify_length: draft tokens verified a round; budget: those of all requests a step; accepted_length: tokens a
    round, the target's own included; wasted: share of verified draft tokens that were rejected.
    """

    realised: float
    expected: float
    verify_length: float
    budget: float
    accepted_length: float
    wasted: float


def summarise(streams: Streams, lengths: Ints, cost: StepCost) -> ReplayOutcome:
    """Figures of the chosen lengths [S, R]."""
    steps, rows = lengths.shape
    kept = lengths.clip(max=streams.accepted)
    seconds = float((1.0 / cost.sps(rows + lengths.sum(axis=1))).sum())
    block = streams.survival.shape[-1]
    admitted = streams.survival * (lengths[..., None] > range(block))
    verified = int(lengths.sum())
    return ReplayOutcome(
        realised=(steps * rows + int(kept.sum())) / seconds,
        expected=(steps * rows + float(admitted.sum())) / seconds,
        verify_length=verified / lengths.size,
        budget=verified / steps,
        accepted_length=1.0 + int(kept.sum()) / lengths.size,
        wasted=1.0 - int(kept.sum()) / verified if verified else 0.0,
    )
