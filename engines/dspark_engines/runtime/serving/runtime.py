"""The runtime: many requests at once on one bundle's engines.

with Runtime(open_bundle(path)) as runtime:
    for event in runtime.submit(request): ...
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Self

from dspark_engines.backends import Engines
from dspark_engines.bundle import Bundle
from dspark_engines.bundle.interruptions import interruptions_held
from dspark_engines.runtime.events import RequestStream
from dspark_engines.runtime.request import GenerationRequest, check_draftable, check_request
from dspark_engines.runtime.result import GenerationResult
from dspark_engines.runtime.round.draft_health import DraftHealth
from dspark_engines.runtime.round.runner import RoundRunner
from dspark_engines.runtime.round.selection import DraftSelection
from dspark_engines.runtime.serving.cohort import Cohort
from dspark_engines.runtime.serving.confidence import new_estimator
from dspark_engines.runtime.serving.costs import CurrentCosts
from dspark_engines.runtime.serving.engine_turns import EngineTurns
from dspark_engines.runtime.serving.plan import RuntimeOptions, RuntimePlan, is_speculating, plan_runtime
from dspark_engines.runtime.serving.pool import EnginePool, open_pool
from dspark_engines.runtime.serving.queue import AdmissionQueue
from dspark_engines.runtime.serving.timeline import Timeline
from dspark_engines.scheduler import get_scheduler, needs_confidence


class Runtime:
    """Opens a bundle's engines and serves requests from threads of its own until the `with` block ends.

    With two cohorts (see `pipeline`), one is verified while the other is drafted; `plan.cohorts` says whether and why.

    Leaving the block waits for what was submitted; an exception in the block cancels it.

    `engines` are those of `bundle` where the caller has opened them and will close them: several runtimes can
    then use them, one after the other.
    """

    plan: RuntimePlan
    """What it does and why, once the runtime is entered."""
    engines: EnginePool
    """What it runs on, once it is entered. To compare two ways give both the same: opened twice, engines differ by
    some percent in speed."""

    def __init__(
        self, bundle: Bundle, options: RuntimeOptions | None = None, *, engines: EnginePool | Engines | None = None
    ) -> None:
        self.bundle, self.options = bundle, options or RuntimeOptions()
        self._opened = EnginePool(engines) if isinstance(engines, Engines) else engines
        self.speculating = is_speculating(bundle, self.options)
        self._queue = AdmissionQueue(self.options.max_queue)
        self._stack = ExitStack()
        self._threads: list[threading.Thread] = []
        self._samples = True
        self.draft_health: list[DraftHealth] = []
        """How the draft engine of every cohort has fared."""
        self.timeline = Timeline()
        """The last steps of both engines."""

    def __enter__(self) -> Self:
        opened = self._opened
        self.plan = plan_runtime(self.bundle, self.options, own_engines=bool(opened.shared) if opened else None)
        cohorts, self.speculating = self.plan.cohorts, self.plan.speculating
        pool = opened or self._stack.enter_context(
            open_pool(self.bundle, self.options.backend, cohorts.exclusive, cohorts.shared)
        )
        if not cohorts.overlapping:
            pool = EnginePool(pool.exclusive)
        pool.preload(cohorts.slots)
        self.engines = pool
        self._samples = pool.exclusive.draft.samples
        self._queue.set_slots(cohorts.slots, cohorts.pairs_from)
        self._start(EngineTurns(pool, self.timeline, self._queue.exclusive, len(cohorts.slots)))
        return self

    def _start(self, turns: EngineTurns) -> None:
        """A thread for every cohort."""
        for number in range(len(self.plan.cohorts.slots)):
            cohort = Cohort(self._runner(turns.engines(number), number), self._queue, number)
            self._threads.append(threading.Thread(target=cohort.run, name=f"dspark-cohort-{number}", daemon=True))
        for thread in self._threads:
            thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._end(abandon=error is not None)
        except BaseException:  # interrupted while it waited: what is left is cancelled, and no thread outlives this
            with interruptions_held():
                self._end(abandon=True)
            raise
        finally:
            self._stack.close()

    def _end(self, *, abandon: bool) -> None:
        self._queue.close(abandon=abandon)
        for thread in self._threads:
            thread.join()

    def _runner(self, engines: Engines, number: int) -> RoundRunner:
        """The rounds of one cohort, whose costs depend on whether another is at work."""
        plan, manifest = self.plan, self.bundle.manifest
        costs = CurrentCosts(plan.costs, partial(self._queue.exclusive, number)) if plan.costs else None
        selection, scaling = None, plan.confidence.scaling
        estimator = new_estimator(manifest.drafter, plan) if needs_confidence(plan.scheduler) else None
        if costs is not None and plan.selective:
            selection = DraftSelection(costs, manifest.drafter.block_size, plan.prior)
        scheduler = get_scheduler(plan.scheduler, costs.step_cost(1, 0) if costs else None)
        health = DraftHealth()
        self.draft_health.append(health)
        return RoundRunner(
            engines, manifest, scheduler, costs, selection, scaling=scaling, estimator=estimator, health=health
        )

    def submit(self, request: GenerationRequest) -> RequestStream:
        """Queue a request. Raises `RequestError` when it is not valid, or when the queue is full."""
        check_request(request, self.bundle.manifest)
        request = request if self.speculating else replace(request, speculate=False)
        check_draftable(request, self._samples)
        stream = RequestStream(request)
        self._queue.put(stream)
        return stream

    def generate(self, requests: Iterable[GenerationRequest]) -> list[GenerationResult]:
        """Serve all and wait; results in the order of the requests."""
        return [stream.result() for stream in [self.submit(request) for request in requests]]
