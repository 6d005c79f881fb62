"""What drafts are expected to come to before a runtime has seen any."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dspark_engines.measured.step_cost import StepCost


class DraftPrior(NamedTuple):
    """What the prompts that were measured were like: how often a draft survived up to each position, and the standard
    deviation, between prompts, of the draft tokens accepted a round."""

    survival: tuple[float, ...]
    spread: float


class BestLength(NamedTuple):
    """The verify length that brings most tokens a second: draft tokens, of them accepted a round, and its `gain`.

    `gain` is tokens a second over those of plain decoding, 1.2 for a fifth more. `needed`: what would have to be
    accepted for a gain of 1.
    """

    length: int
    accepted: float
    gain: float
    needed: float


def best_length(prior: DraftPrior, cost: StepCost, draft_seconds: float, overhead: float, rows: int = 1) -> BestLength:
    """Of `rows` requests, each of which accepts what the prior says."""
    lengths = np.arange(1, len(prior.survival) + 1)
    accepted = np.cumsum(prior.survival)
    plain = float(cost.seconds(np.array(rows))) + overhead
    seconds = cost.seconds(rows * (1 + lengths)) + draft_seconds + overhead
    gains = (1.0 + accepted) * plain / seconds
    best = int(np.argmax(gains))
    needed = float(seconds[best]) / plain - 1.0
    return BestLength(int(lengths[best]), float(accepted[best]), float(gains[best]), needed)
