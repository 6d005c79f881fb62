"""Who drafts this round: drafting costs as well, and where it brings too little it is left out.

Decided before the round, from what earlier rounds brought and from the cost table, so whatever is decided the
output keeps its distribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dspark_engines.measured import Costs, DraftPrior, best_length
from dspark_engines.runtime.round.state import RequestState

MEMORY = 32
"""Rounds that an average looks back on."""
PRIOR = 4
"""How many rounds of its own outweigh for a request what is usual here."""
PATIENCE, LONGEST = 16, 128
"""Plain rounds before drafting is tried again: at first, and at most."""


@dataclass(frozen=True)
class DraftGain:
    """What a request's drafts come to in a round: tokens verified, tokens accepted; of `weight` rounds."""

    verified: float
    accepted: float
    weight: int = 1

    def after(self, verified: int, accepted: int) -> DraftGain:
        """With one more round: a mean at first, then one that forgets."""
        weight = min(self.weight + 1, MEMORY)
        share = 1.0 / weight
        return DraftGain(
            self.verified + share * (verified - self.verified),
            self.accepted + share * (accepted - self.accepted),
            weight,
        )


class DraftSelection:
    """Chooses the requests whose drafts raise tokens per second, by expected accepted tokens, best first.

    What is usual comes from the calibration (`prior`) at first; without one expectations start high, so that
    drafting is tried. A new request is expected to be as much better than usual as requests differ from each other,
    less with every round that it has shown what it is: trying a good one is worth more than a bad one costs. A
    drafter that has fallen behind has to read first, which is charged to the rounds that the request has left.

    When drafting does not pay for anybody, one request tries it again after 16 plain rounds, then 32, … at most 128:
    the one whose drafter has the least to catch up on. One instance serves one sequence of rounds.
    """

    def __init__(self, costs: Costs, block_size: int, prior: DraftPrior | None = None) -> None:
        self._costs, self._block_size, self._prior = costs, block_size, prior
        self._usual: DraftGain | None = None
        self._own: dict[int, DraftGain] = {}
        self._patience, self._plain = PATIENCE, 0

    def choose(self, states: Sequence[RequestState], candidates: Sequence[RequestState]) -> list[RequestState]:
        """Those of `candidates` (all who could draft) that shall, in their order; `states` are all in the round."""
        new = _new_request(self._expected(states))
        self._own = {state.id: self._own.get(state.id, new) for state in states}
        if not candidates:
            return []
        count, order = self._best_count(states, candidates)
        if count:
            self._patience, self._plain = PATIENCE, 0
        elif self._plain < self._patience:
            self._plain += 1
        else:
            self._plain, self._patience = 0, min(2 * self._patience, LONGEST)
            return [min(candidates, key=lambda state: state.unread)]
        chosen = set(order[:count])
        return [state for index, state in enumerate(candidates) if index in chosen]

    def record(self, state: RequestState, verified: int, accepted: int) -> None:
        """A request drafted: so much of it was verified, so much accepted."""
        usual = self._expected([state])
        self._usual = usual.after(verified, accepted)
        self._own[state.id] = self._own.get(state.id, _new_request(usual)).after(verified, accepted)

    def _expected(self, states: Sequence[RequestState]) -> DraftGain:
        """What is usual; before the first round, what the calibration says of the best length for these requests."""
        if self._usual is None:
            self._usual = DraftGain(self._block_size, self._block_size)
            if self._prior is not None and states:
                self._usual = self._calibrated(self._prior, len(states), _context(states))
        return self._usual

    def _calibrated(self, prior: DraftPrior, rows: int, context: int) -> DraftGain:
        cost, draft = self._costs.step_cost(rows, context), self._costs.draft_seconds(rows, context)
        best = best_length(prior, cost, draft, self._costs.overhead_seconds, rows)
        return DraftGain(best.length, best.accepted, MEMORY)

    def _best_count(self, states: Sequence[RequestState], candidates: Sequence[RequestState]) -> tuple[int, list[int]]:
        """How many should draft, and candidates by falling gain. Of equally good numbers the smallest."""
        rows, context = len(states), _context(states)
        cost, overhead = self._costs.step_cost(rows, context), self._costs.overhead_seconds
        own = [self._own[state.id] for state in candidates]
        expected = np.array([self._optimistic(each) for each in own])
        reading = np.array([self._reading(*pair) for pair in zip(candidates, expected.tolist(), strict=True)])
        plain = rows / (float(cost.seconds(np.array(rows))) + overhead)
        order = np.argsort(reading * plain - expected, kind="stable").tolist()
        accepted = _sums(expected[order])
        verified = _sums(np.array([own[index].verified for index in order]))
        drafting = [self._costs.draft_seconds(count, context) for count in range(len(candidates) + 1)]
        seconds = cost.seconds(np.asarray(np.rint(rows + verified), np.int64)) + np.array(drafting)
        return int(np.argmax((rows + accepted) / (seconds + _sums(reading[order]) + overhead))), order

    def _optimistic(self, own: DraftGain) -> float:
        """Tokens accepted a round: what was seen, and what may be in a request that has shown little."""
        spread = self._prior.spread if self._prior is not None else 0.0
        return own.accepted + spread * PRIOR / max(PRIOR, own.weight)

    def _reading(self, state: RequestState, accepted: float) -> float:
        """Seconds a round for what its drafter has missed: read once, of use for the rounds that are left."""
        rounds = min(float(MEMORY), max(1.0, state.remaining / (1.0 + accepted)))
        return self._costs.reading_seconds * state.unread / rounds


def _new_request(usual: DraftGain) -> DraftGain:
    return replace(usual, weight=min(PRIOR, usual.weight))


def _context(states: Sequence[RequestState]) -> int:
    return max(state.used for state in states)


def _sums(values: np.ndarray) -> np.ndarray:
    """Of the first 0, 1, … all."""
    return np.concatenate([[0.0], np.cumsum(values)])
