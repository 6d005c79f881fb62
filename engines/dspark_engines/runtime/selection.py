"""Who drafts this round: drafting costs as well, and where it brings too little it is left out.

Decided before the round, from what earlier rounds brought and from the cost table, so whatever is decided the
output keeps its distribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dspark_engines.costs import CostTable
from dspark_engines.runtime.state import RequestState

MEMORY = 32
"""Rounds that an average looks back on."""
PRIOR = 4
"""How many rounds of its own outweigh for a request what is usual here."""
PATIENCE, LONGEST = 16, 128
"""Plain rounds before drafting is tried again: at first, and at most."""


@dataclass(frozen=True)
class Yield:
    """What a request's drafts come to in a round: tokens verified, tokens accepted; of `weight` rounds."""

    verified: float
    accepted: float
    weight: int = 1

    def after(self, verified: int, accepted: int) -> Yield:
        """With one more round: a mean at first, then one that forgets."""
        weight = min(self.weight + 1, MEMORY)
        share = 1.0 / weight
        return Yield(
            self.verified + share * (verified - self.verified),
            self.accepted + share * (accepted - self.accepted),
            weight,
        )


class DraftSelection:
    """Chooses the requests whose drafts raise tokens per second, by expected accepted tokens, best first.

    Expectations start high, so that drafting is tried. When it does not pay for anybody, one request tries it again
    after 16 plain rounds, then 32, … at most 128: the one whose drafter has the least to catch up on, since that is
    what such a trial costs. One instance serves one sequence of rounds.
    """

    def __init__(self, costs: CostTable, block_size: int) -> None:
        self._costs = costs
        self._usual = Yield(block_size, block_size)
        self._own: dict[int, Yield] = {}
        self._patience, self._plain = PATIENCE, 0

    def choose(self, states: Sequence[RequestState], candidates: Sequence[RequestState]) -> list[RequestState]:
        """Those of `candidates` (all who could draft) that shall, in their order; `states` are all in the round."""
        self._own = {state.id: self._own.get(state.id, self._newcomer()) for state in states}
        if not candidates:
            return []
        count, order = self._best_count(states, candidates)
        if count:
            self._patience, self._plain = PATIENCE, 0
        elif self._plain < self._patience:
            self._plain += 1
        else:
            self._plain, self._patience = 0, min(2 * self._patience, LONGEST)
            return [min(candidates, key=lambda state: state.used - state.drafted)]
        chosen = set(order[:count])
        return [state for index, state in enumerate(candidates) if index in chosen]

    def record(self, state: RequestState, verified: int, accepted: int) -> None:
        """A request drafted: so much of it was verified, so much accepted."""
        self._usual = self._usual.after(verified, accepted)
        self._own[state.id] = self._own.get(state.id, self._newcomer()).after(verified, accepted)

    def _newcomer(self) -> Yield:
        return replace(self._usual, weight=min(PRIOR, self._usual.weight))

    def _best_count(self, states: Sequence[RequestState], candidates: Sequence[RequestState]) -> tuple[int, list[int]]:
        """How many should draft, and candidates by falling yield. Of equally good numbers the smallest."""
        own = [self._own[state.id] for state in candidates]
        order = np.argsort([-each.accepted for each in own], kind="stable").tolist()
        accepted = np.concatenate([[0.0], np.cumsum([own[i].accepted for i in order])])
        verified = np.concatenate([[0.0], np.cumsum([own[i].verified for i in order])])
        rows, context = len(states), max(state.used for state in states)
        cost = self._costs.step_cost(rows, context)
        drafting = [self._costs.draft_seconds(count, context) for count in range(len(candidates) + 1)]
        seconds = cost.seconds(np.asarray(np.rint(rows + verified), np.int64)) + np.array(drafting)
        return int(np.argmax((rows + accepted) / (seconds + self._costs.overhead_seconds))), order
