"""How much of what was drafted was accepted: the figures that every report of a generation carries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Round:
    """One verification: draft tokens proposed and accepted, and tokens that the round added to the output.

    `produced` counts the target's own token; it is smaller than accepted + 1 only when an
    end-of-sequence token or the length limit cut the round.
    """

    proposed: int
    accepted: int
    produced: int


def accepted_length(rounds: Sequence[Round]) -> float:
    """Mean tokens a round, the target's own included; 0 without rounds."""
    return sum(r.produced for r in rounds) / len(rounds) if rounds else 0.0


def accepted_per_position(rounds: Sequence[Round], block_size: int) -> list[float]:
    """For each position of the block: how often it survived, among the rounds that proposed it."""
    result = []
    for position in range(block_size):
        proposed = [r for r in rounds if r.proposed > position]
        survived = sum(r.accepted > position for r in proposed)
        result.append(survived / len(proposed) if proposed else 0.0)
    return result
