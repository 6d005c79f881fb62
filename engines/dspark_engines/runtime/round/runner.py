"""One round for a group of requests: draft, schedule, verify, keep what survives.

A token's way: reading the prompt computes its features and the first token, which is the anchor; a round
drafts a block behind the anchor, verifies anchor and block in one step, keeps the accepted prefix and the
target's own next token, which is the next anchor. The features of what was kept wait for the next draft.

Rows never mix inside the engines, and every random decision comes from the request's own seed and the
position that it is about. Only how much of a block is verified may be decided with other requests in view.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dspark_calibration.sts import Scaling
from dspark_engines.arrays import Ints
from dspark_engines.backends import Engines, Slot
from dspark_engines.bundle import Manifest
from dspark_engines.measured import Costs
from dspark_engines.runtime.request import GenerationRequest
from dspark_engines.runtime.result import GenerationResult
from dspark_engines.runtime.round.draft_health import LOG, MOST_BAD_BLOCKS, MOST_MISSED, DraftHealth
from dspark_engines.runtime.round.draft_step import DraftRules, Drafts, draft_blocks
from dspark_engines.runtime.round.estimator import AcceptanceEstimator
from dspark_engines.runtime.round.selection import DraftSelection
from dspark_engines.runtime.round.state import RequestState
from dspark_engines.runtime.round.verify_step import Outcome, accept, commit, plan_accept, plan_rows, run_rows
from dspark_engines.scheduler import Scheduler
from dspark_plugins.accept import BROKEN

Gained = list[tuple[RequestState, list[int]]]
"""Every request that took part in a round, and the tokens that it gained (none while its prompt goes on)."""

RoundObserver = Callable[[Drafts, Ints, Sequence[Outcome]], None]
"""Sees every round that drafted: the drafts, how much of each was verified, and an outcome for each of them.
The states still stand at their anchors. Arrays are the engines' own: whoever keeps them, copies."""


class RoundRunner:
    """Advances requests on opened engines. Holds no request itself.

    `costs` is for schedulers that read it; with `selection`, only those draft for whom it pays. `estimator` makes
    confidences of a drafter's scores and learns from every round. `health` decides when a draft engine that failed is
    asked again.
    """

    def __init__(
        self,
        engines: Engines,
        manifest: Manifest,
        scheduler: Scheduler,
        costs: Costs | None = None,
        selection: DraftSelection | None = None,
        *,
        scaling: Scaling | None = None,
        estimator: AcceptanceEstimator | None = None,
        observer: RoundObserver | None = None,
        health: DraftHealth | None = None,
    ) -> None:
        self.health = health or DraftHealth()
        self._observer = observer
        self._engines, self._scheduler, self._limits, self._costs = engines, scheduler, manifest.limits, costs
        self._selection = selection
        self._rules = DraftRules(
            manifest.drafter.block_size,
            manifest.limits.context_length,
            frozenset(manifest.target.eos_token_ids),
            scaling,
            estimator,
        )

    def new_result(self) -> GenerationResult:
        """An empty result."""
        return GenerationResult(self._rules.block_size)

    def start(self, request: GenerationRequest, result: GenerationResult | None = None) -> RequestState:
        """A state with caches of its own for a request that `check_request` let pass."""
        verify_slot, draft_slot = self._engines.verify.new_slot(), None
        if request.speculate and self._rules.block_size:
            draft_slot = self._draft_slot()
        speculating, reads = draft_slot is not None, self._engines.draft.reads_features
        return RequestState(request, result or self.new_result(), verify_slot, draft_slot, speculating, reads)

    def _draft_slot(self) -> Slot | None:
        """None where the draft engine has no memory for one more: the request can do without."""
        try:
            return self._engines.draft.new_slot()
        except Exception as error:  # whatever a backend raises
            self.health.failed(error)
            return None

    def advance(self, states: Sequence[RequestState]) -> Gained:
        """One round for all of them. Of a request that cannot go on, `failure` says why; it must not come again."""
        return self.verify(states, self.draft(states))

    def draft(self, states: Sequence[RequestState]) -> Drafts:
        """The drafting half. While the drafter fails all requests go on by plain decoding; nothing they had is lost."""
        if self.health.pausing:
            _stop_the_late(states)
            return self._rules.nothing()
        candidates = [state for state in states if self._rules.cap(state)]
        if self._selection is not None:
            candidates = self._selection.choose(states, candidates)
        if not candidates:
            return self._rules.nothing()
        try:
            drafts = draft_blocks(self._engines.draft, candidates, self._rules)
        except Exception as error:  # whatever a backend raises: requests in flight must not be lost
            self.health.failed(error)
            return self._rules.nothing()
        self.health.succeeded()
        self._note_bad_blocks(drafts)
        return drafts

    def verify(self, states: Sequence[RequestState], drafts: Drafts) -> Gained:
        """The verifying half: schedule, run one step, accept."""
        lengths = self._schedule(states, drafts)
        rows = plan_rows(states, drafts, lengths, self._limits.prefill_chunk)
        inputs = plan_accept(rows, drafts, lengths)
        output, features = run_rows(self._engines.verify, rows, inputs)
        outcomes = accept(rows, output, inputs)
        if self._selection is not None:
            for length, outcome in zip(lengths.tolist(), outcomes[: len(drafts)], strict=True):
                self._selection.record(outcome.row.state, length, outcome.accepted)
        if self._observer is not None and len(drafts):
            self._observer(drafts, lengths, outcomes[: len(drafts)])
        self._learn(drafts, lengths, outcomes[: len(drafts)])
        pairs = zip(outcomes, features, strict=True)
        return [(outcome.row.state, commit(outcome, part, self._rules.eos)) for outcome, part in pairs]

    def finished(self, state: RequestState) -> bool:
        """Whether the request is done; notes why."""
        if not state.result.token_ids:
            return False
        if state.anchor in self._rules.eos:
            state.result.stop = "eos"
        elif state.remaining <= 0:
            state.result.stop = "length"
        elif state.used + 1 >= self._limits.context_length:  # the anchor counts, though it is not cached
            state.result.stop = "context"
        else:
            return False
        return True

    def _schedule(self, states: Sequence[RequestState], drafts: Drafts) -> Ints:
        """How much of every block is verified, given what else is in the step."""
        ids = np.array([state.id for state in drafts.states], np.int64)
        plain = sum(not state.reading for state in states) - len(drafts)
        unread = sum(len(state.prompt) - state.used for state in states if state.reading)
        prompts = min(unread, self._limits.prefill_chunk)
        cost = None
        if self._costs is not None:
            cost = self._costs.step_cost(len(states), max(state.used for state in states))
        return self._scheduler.plan(
            drafts.survival, ids, drafts.caps, plain_rows=plain, other_tokens=prompts, cost=cost
        )

    def _learn(self, drafts: Drafts, lengths: Ints, outcomes: Sequence[Outcome]) -> None:
        """Let the estimator see what came of the drafts: of a row whose target broke, what was accepted before."""
        estimator = self._rules.estimator
        if estimator is None or drafts.scores is None or not outcomes:
            return
        accepted = np.array([outcome.accepted for outcome in outcomes])
        broken = np.array([outcome.following == BROKEN for outcome in outcomes])
        estimator.learn(drafts.scores, np.where(broken, accepted, lengths), accepted)

    def _note_bad_blocks(self, drafts: Drafts) -> None:
        for state in drafts.states:
            state.bad_blocks = state.bad_blocks + 1 if state in drafts.bad else 0
            if state.bad_blocks:
                self.health.bad_block(state.id, state.bad_blocks)
            if state.bad_blocks == MOST_BAD_BLOCKS:
                state.stop_speculating()


def _stop_the_late(states: Sequence[RequestState]) -> None:
    """Pending features take memory: a request that waits too long for the drafter does without it."""
    for state in states:
        if state.speculating and state.missed >= MOST_MISSED:
            state.stop_speculating()
            LOG.warning(
                "request %d: its drafter missed %d tokens; it goes on by plain decoding", state.id, state.missed
            )
