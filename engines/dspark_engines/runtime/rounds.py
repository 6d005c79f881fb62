"""One round for a group of requests: draft, schedule, verify, keep what survives.

A token's way: reading the prompt computes its features and the first token, which is the anchor; a round
drafts a block behind the anchor, verifies anchor and block in one step, keeps the accepted prefix and the
target's own next token, which is the next anchor. The features of what was kept wait for the next draft.

Rows never mix inside the engines, and every random decision comes from the request's own seed and the
position that it is about. Only how much of a block is verified may be decided with other requests in view.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np

from dspark_calibration.sts import Scaling
from dspark_engines.backends import Engines, Ints
from dspark_engines.bundle import Manifest
from dspark_engines.costs import Costs
from dspark_engines.runtime.drafting import DraftRules, Drafts, draft_blocks
from dspark_engines.runtime.request import GenerationRequest
from dspark_engines.runtime.result import GenerationResult
from dspark_engines.runtime.selection import DraftSelection
from dspark_engines.runtime.state import RequestState
from dspark_engines.runtime.verifying import Outcome, commit, decide, plan_rows, plan_trial, run_rows
from dspark_engines.scheduler import Scheduler

Gained = list[tuple[RequestState, list[int]]]
"""Every request that took part in a round, and the tokens that it gained (none while its prompt goes on)."""

RoundObserver = Callable[[Drafts, Ints, Sequence[Outcome]], None]
"""Sees every round that drafted: the drafts, how much of each was verified, and an outcome for each of them.
The states still stand at their anchors. Arrays are the engines' own: whoever keeps them, copies."""


class RoundRunner:
    """Advances requests on opened engines. Holds no request itself.

    `costs` is for schedulers that read it; with `selection`, only those draft for whom it pays.
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
        observer: RoundObserver | None = None,
    ) -> None:
        self._observer = observer
        self._engines, self._scheduler, self._limits, self._costs = engines, scheduler, manifest.limits, costs
        self._selection = selection
        self._rules = DraftRules(
            manifest.drafter.block_size,
            manifest.limits.context_length,
            frozenset(manifest.target.eos_token_ids),
            scaling,
        )
        self.speculation_failed = ""

    def new_result(self) -> GenerationResult:
        """An empty result."""
        return GenerationResult(self._rules.block_size)

    def start(self, request: GenerationRequest, result: GenerationResult | None = None) -> RequestState:
        """A state with caches of its own for a request that `check_request` let pass."""
        speculating = request.speculate and not self.speculation_failed
        return RequestState(
            request,
            result or self.new_result(),
            self._engines.verify.new_slot(),
            self._engines.draft.new_slot() if speculating else None,
            speculating,
        )

    def advance(self, states: Sequence[RequestState]) -> Gained:
        """One round for all of them."""
        return self.verify(states, self.draft(states))

    def draft(self, states: Sequence[RequestState]) -> Drafts:
        """The drafting half. When the drafter fails all requests go on by plain decoding, and a warning says so."""
        candidates = [state for state in states if self._rules.cap(state)]
        if self._selection is not None:
            candidates = self._selection.choose(states, candidates)
        try:
            return draft_blocks(self._engines.draft, candidates, self._rules)
        except Exception as error:  # whatever a backend raises: requests in flight must not be lost
            self._give_up(states, error)
            return self._rules.nothing()

    def verify(self, states: Sequence[RequestState], drafts: Drafts) -> Gained:
        """The verifying half: schedule, run one step, accept."""
        lengths = self._schedule(states, drafts)
        rows = plan_rows(states, drafts, lengths, self._limits.prefill_chunk)
        trial = plan_trial(rows, drafts, lengths)
        output, features = run_rows(self._engines.verify, rows, trial)
        outcomes = decide(rows, output, trial)
        if self._selection is not None:
            for length, outcome in zip(lengths.tolist(), outcomes[: len(drafts)], strict=True):
                self._selection.record(outcome.row.state, length, outcome.accepted)
        if self._observer is not None and len(drafts):
            self._observer(drafts, lengths, outcomes[: len(drafts)])
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

    def _give_up(self, states: Sequence[RequestState], error: Exception) -> None:
        self.speculation_failed = f"{type(error).__name__}: {error}".splitlines()[0]
        message = f"the draft engine failed ({self.speculation_failed}); going on by plain decoding"
        warnings.warn(message, RuntimeWarning, stacklevel=4)
        for state in states:
            state.stop_speculating()
