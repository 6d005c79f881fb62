"""Rounds of many prompts, in memory."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from dspark_calibration.arrays import Doubles, Ints

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Rounds:
    """n rounds that verified their whole block of g, prompt by prompt, each prompt's in order.

    logits float64 [n, g], raw confidence logits; accepted int64 [n]; context int64 [n], the anchor's position;
    prompt int64 [n], index of the prompt; cut, how many rounds were left out because the end of the text or a
    length limit made their block shorter; empty, how many because the drafter had nothing to propose. scores float64
    [n, g, S], where the drafter has no confidence head.
    """

    logits: Doubles
    accepted: Ints
    context: Ints
    prompt: Ints
    cut: int = 0
    empty: int = 0
    scores: Doubles | None = None

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def block_size(self) -> int:
        """g."""
        return int(self.logits.shape[1])

    @cached_property
    def survived(self) -> Bools:
        """[n, g]: the prefix survived up to and including position j."""
        return np.asarray(self.accepted[:, None] > np.arange(self.block_size))

    @cached_property
    def reached(self) -> Bools:
        """[n, g]: everything before position j survived."""
        return np.asarray(self.accepted[:, None] >= np.arange(self.block_size))

    def of(self, prompts: Collection[int]) -> Rounds:
        """The rounds of these prompts."""
        chosen = np.isin(self.prompt, np.fromiter(prompts, np.int64, len(prompts)))
        return self.take(np.flatnonzero(chosen))

    def take(self, indices: Ints) -> Rounds:
        """These rounds, in this order, repeats included."""
        return Rounds(
            self.logits[indices],
            self.accepted[indices],
            self.context[indices],
            self.prompt[indices],
            scores=None if self.scores is None else self.scores[indices],
        )
