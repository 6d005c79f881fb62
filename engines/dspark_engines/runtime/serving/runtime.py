"""The runtime: many requests at once on one bundle's engines.

with Runtime(open_bundle(path)) as runtime:
    for event in runtime.submit(request): ...
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Literal, Self

from dspark_engines.backends import EngineOptions, Engines, get_backend
from dspark_engines.bundle import Bundle
from dspark_engines.bundle.interruptions import interruptions_held
from dspark_engines.errors import RequestError
from dspark_engines.measured import (
    COST_TABLE,
    Confidence,
    Costs,
    CostTable,
    load_confidence,
    load_cost_table,
    load_placement,
    take_fingerprint,
)
from dspark_engines.runtime.events import RequestStream
from dspark_engines.runtime.request import GenerationRequest, check_draftable, check_request
from dspark_engines.runtime.result import GenerationResult
from dspark_engines.runtime.round.draft_health import DraftHealth
from dspark_engines.runtime.round.runner import RoundRunner
from dspark_engines.runtime.round.selection import DraftSelection
from dspark_engines.runtime.serving.cohort import Cohort
from dspark_engines.runtime.serving.costs import CurrentCosts
from dspark_engines.runtime.serving.engine_turns import EngineTurns
from dspark_engines.runtime.serving.pipeline import Cohorts, Pipeline, plan_cohorts
from dspark_engines.runtime.serving.pool import EnginePool, open_pool
from dspark_engines.runtime.serving.queue import AdmissionQueue
from dspark_engines.runtime.serving.timeline import Timeline
from dspark_engines.scheduler import FixedSpec, SchedulerSpec, get_scheduler, needs_confidence, needs_cost

Speculation = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class RuntimeOptions:
    """How a runtime serves. `max_batch` 0 means as many requests at once as the bundle was built for.

    `speculation` "auto" does as the bundle says, and with a scheduler other than `fixed` and a cost table drafts
    only for whom it pays; "on" drafts always, "off" never. A request may go without by itself.
    """

    backend: str = "onnxruntime"
    engines: EngineOptions = field(default_factory=EngineOptions)
    max_batch: int = 0
    max_queue: int = 1024
    scheduler: SchedulerSpec | str = field(default_factory=FixedSpec)
    pipeline: Pipeline = "auto"
    speculation: Speculation = "auto"


class Runtime:
    """Opens a bundle's engines and serves requests from threads of its own until the `with` block ends.

    With two cohorts (see `pipeline`), one is verified while the other is drafted; `cohorts` says whether and why.

    Leaving the block waits for what was submitted; an exception in the block cancels it.

    `engines` are those of `bundle` where the caller has opened them and will close them: several runtimes can
    then use them, one after the other.
    """

    cohorts: Cohorts
    """How many cohorts there are, and why, once the runtime is entered."""

    def __init__(
        self, bundle: Bundle, options: RuntimeOptions | None = None, *, engines: EnginePool | Engines | None = None
    ) -> None:
        self.bundle, self.options = bundle, options or RuntimeOptions()
        self._opened = EnginePool(engines) if isinstance(engines, Engines) else engines
        self.speculating = {"auto": bundle.manifest.speculation, "on": True, "off": False}[self.options.speculation]
        self._queue = AdmissionQueue(self.options.max_queue)
        self._stack = ExitStack()
        self._threads: list[threading.Thread] = []
        self._samples = True
        self.draft_health: list[DraftHealth] = []
        """How the draft engine of every cohort has fared."""
        self.timeline = Timeline()
        """The last steps of both engines."""
        self.scheduler = FixedSpec.name
        """Name of the scheduler that decides, once the runtime is entered: `fixed` where a cost table is missing."""

    def __enter__(self) -> Self:
        options, limits = self.options, self.bundle.manifest.limits
        slots = options.max_batch or limits.slots
        if slots > limits.slots:
            raise RequestError(
                f"{slots} requests at once, the bundle was built for {limits.slots}", hint="build it with more --slots"
            )
        self.cohorts = self._plan(slots)
        pool = self._opened or self._stack.enter_context(
            open_pool(self.bundle, options.backend, self.cohorts.exclusive, self.cohorts.shared)
        )
        if not self.cohorts.overlapping:
            pool = EnginePool(pool.exclusive)
        pool.preload(self.cohorts.slots)
        self._queue.set_slots(self.cohorts.slots, self.cohorts.pairs_from)
        turns = EngineTurns(pool, self.timeline, self._queue.exclusive, len(self.cohorts.slots))
        self._samples = pool.exclusive.draft.samples
        costs, confidence = self._costs(), self._confidence()
        for number in range(len(self.cohorts.slots)):
            mine = CurrentCosts(costs, partial(self._queue.exclusive, number)) if costs else None
            cohort = Cohort(self._runner(turns.engines(number), mine, confidence), self._queue, number)
            self._threads.append(threading.Thread(target=cohort.run, name=f"dspark-cohort-{number}", daemon=True))
        for thread in self._threads:
            thread.start()
        return self

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

    def _plan(self, slots: int) -> Cohorts:
        options, opened = self.options, self._opened
        own = bool(opened.shared) if opened else get_backend(options.backend).own_engines
        placement = None if options.engines.threads else load_placement(self.bundle, options.backend)
        return plan_cohorts(options.pipeline, slots, options.engines, own_engines=own, placement=placement)

    def _costs(self) -> CostTable | None:
        """The bundle's cost table, if it is of use and was measured here."""
        options = self.options
        spec = options.scheduler
        if not self.speculating or (spec if isinstance(spec, str) else spec.name) == FixedSpec.name:
            return None
        if not needs_cost(spec) and not self.bundle.file(COST_TABLE).is_file():
            return None
        return load_cost_table(self.bundle, take_fingerprint(self.bundle, options.backend, self.cohorts.exclusive))

    def _confidence(self) -> Confidence:
        """The bundle's calibration, if it is of use."""
        if not self.speculating or not needs_confidence(self.options.scheduler):
            return Confidence(None, True)
        return load_confidence(self.bundle, self.options.backend)

    def _runner(self, engines: Engines, costs: Costs | None, confidence: Confidence) -> RoundRunner:
        """Without the cost table that its scheduler needs, or confidences to trust, a runner verifies whole blocks."""
        spec, manifest = self.options.scheduler, self.bundle.manifest
        if (costs is None and needs_cost(spec)) or not confidence.trusted:
            spec = FixedSpec()
        self.scheduler = spec if isinstance(spec, str) else spec.name
        scheduler, selection = get_scheduler(spec, costs.step_cost(1, 0) if costs else None), None
        if costs is not None and self.options.speculation == "auto":
            selection = DraftSelection(costs, manifest.drafter.block_size, confidence.prior)
        self.draft_health.append(DraftHealth())
        return RoundRunner(
            engines,
            manifest,
            scheduler,
            costs,
            selection,
            scaling=confidence.scaling,
            health=self.draft_health[-1],
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
