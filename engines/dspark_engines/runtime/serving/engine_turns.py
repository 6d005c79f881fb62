"""The engines as one cohort sees them: its own, everybody's when it is alone, or a turn on shared ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from dspark_engines.backends import DraftEngine, DraftOutput, Engine, Engines, Slot, VerifyEngine, VerifyOutput
from dspark_engines.runtime.serving.pool import EnginePool
from dspark_engines.runtime.serving.timeline import ENGINES, Span, Timeline


class EngineTurns:
    """Hands engines of `pool` to cohorts, step by step, and records who used what. Safe for several threads.

    `exclusive(cohort)` tells whether no other cohort has requests: its steps then run on the engines that use the whole
    machine. A cohort that comes meanwhile starts on its own; one step at most shares the cores. Outputs of engines
    that several `cohorts` take turns on are copied: they are valid until the next step, which may be another's.
    """

    def __init__(self, pool: EnginePool, timeline: Timeline, exclusive: Callable[[int], bool], cohorts: int) -> None:
        self._pool, self._timeline, self._exclusive = pool, timeline, exclusive
        self._copying = cohorts > 1 and not pool.shared
        self._switching = pool.exclusive not in pool.shared
        self._locks = {engine: threading.Lock() for engine in ENGINES}

    def engines(self, cohort: int) -> Engines:
        """What `cohort` runs its steps on."""
        return Engines(_Verify(self, cohort), _Draft(self, cohort))

    @property
    def pool(self) -> EnginePool:
        """All of them."""
        return self._pool

    def step(self, role: str, cohort: int, method: str, *args: Any, **kwargs: Any) -> Any:
        """A step, by that method, on the engine that is `cohort`'s at this moment."""
        with self._turn(role, cohort) as engine:
            output = getattr(engine, method)(*args, **kwargs)
            if not self._copying:
                return output
            arrays = {name: value.copy() for name, value in output._asdict().items() if isinstance(value, np.ndarray)}
            return output._replace(**arrays)

    @contextmanager
    def _turn(self, role: str, cohort: int) -> Iterator[Any]:
        """Have an engine to oneself; the time is recorded."""
        with self._chosen(role, cohort) as engine:
            begin = time.perf_counter()
            try:
                yield engine
            finally:
                self._timeline.spans.append(Span(role, cohort, begin, time.perf_counter()))

    @contextmanager
    def _chosen(self, role: str, cohort: int) -> Iterator[Any]:
        shared, lock = getattr(self._pool.exclusive, role), self._locks[role]
        if not self._pool.shared:
            with lock:
                yield shared
        elif self._switching and self._exclusive(cohort) and lock.acquire(blocking=False):
            try:
                yield shared
            finally:
                lock.release()
        else:
            yield getattr(self._pool.shared[cohort], role)


class _Turns(Engine):
    """What both engines forward as it is."""

    role: str

    def __init__(self, turns: EngineTurns, cohort: int) -> None:
        self._turns, self._cohort = turns, cohort
        self._engine: Engine = getattr(turns.pool.exclusive, self.role)

    @property
    def max_rows(self) -> int:
        return self._engine.max_rows

    def new_slot(self) -> Slot:
        return self._engine.new_slot()


class _Verify(_Turns, VerifyEngine):
    role = "verify"
    _engine: VerifyEngine

    def accepts_on_device(self, sampling: bool) -> bool:
        return self._engine.accepts_on_device(sampling)

    def step(self, *args: Any, **kwargs: Any) -> VerifyOutput:
        output: VerifyOutput = self._turns.step(self.role, self._cohort, "step", *args, **kwargs)
        return output

    def step_and_accept(self, *args: Any, **kwargs: Any) -> VerifyOutput:
        output: VerifyOutput = self._turns.step(self.role, self._cohort, "step_and_accept", *args, **kwargs)
        return output


class _Draft(_Turns, DraftEngine):
    role = "draft"

    def step(self, *args: Any, **kwargs: Any) -> DraftOutput:
        output: DraftOutput = self._turns.step(self.role, self._cohort, "step", *args, **kwargs)
        return output
