"""The engines as one cohort sees them: its own, those that use all cores, or a turn on shared ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from dspark_engines.arrays import Floats, Ints
from dspark_engines.backends import DraftEngine, DraftOutput, Engine, Engines, Slot, VerifyEngine, VerifyOutput
from dspark_engines.runtime.serving.pool import EnginePool
from dspark_engines.runtime.serving.timeline import ENGINES, Span, Timeline
from dspark_engines.sampling.contract import AcceptInputs

E = TypeVar("E", bound=Engine)
Output = TypeVar("Output", VerifyOutput, DraftOutput)


class EngineTurns:
    """Hands engines of `pool` to cohorts, step by step, and records who used what. Safe for several threads.

    `exclusive(cohort)` tells whether no other cohort has requests: its steps then run on the engines that use the whole
    machine. A cohort that comes meanwhile starts on its own; one step at most shares the cores. Outputs of engines
    that several `cohorts` take turns on are copied: they are valid until the next step, which may be another's.
    """

    def __init__(self, pool: EnginePool, timeline: Timeline, exclusive: Callable[[int], bool], cohorts: int) -> None:
        self.pool = pool
        self._timeline, self._exclusive = timeline, exclusive
        self._copying = cohorts > 1 and not pool.shared
        self._switching = pool.exclusive not in pool.shared
        self._locks = {engine: threading.Lock() for engine in ENGINES}

    def engines(self, cohort: int) -> Engines:
        """What `cohort` runs its steps on."""
        return Engines(_VerifyTurns(self, cohort), _DraftTurns(self, cohort))

    @contextmanager
    def turn(self, role: str, cohort: int, exclusive: E, shared: Sequence[E]) -> Iterator[E]:
        """Have the engine that is `cohort`'s at this moment to oneself; the time is recorded."""
        with self._chosen(role, cohort, exclusive, shared) as engine:
            begin = time.perf_counter()
            try:
                yield engine
            finally:
                self._timeline.spans.append(Span(role, cohort, begin, time.perf_counter()))

    def lasting(self, output: Output) -> Output:
        """`output` for as long as the cohort needs it: a copy where another cohort's step may overwrite it."""
        if not self._copying:
            return output
        arrays: dict[str, Any] = {
            name: value.copy() for name, value in output._asdict().items() if isinstance(value, np.ndarray)
        }
        return output._replace(**arrays)

    @contextmanager
    def _chosen(self, role: str, cohort: int, exclusive: E, shared: Sequence[E]) -> Iterator[E]:
        lock = self._locks[role]
        if not shared:
            with lock:
                yield exclusive
        elif self._switching and self._exclusive(cohort) and lock.acquire(blocking=False):
            try:
                yield exclusive
            finally:
                lock.release()
        else:
            yield shared[cohort]


class _VerifyTurns(VerifyEngine):
    def __init__(self, turns: EngineTurns, cohort: int) -> None:
        self._turns = turns
        self._exclusive = turns.pool.exclusive.verify
        self._engines = ("verify", cohort, self._exclusive, [engines.verify for engines in turns.pool.shared])

    @property
    def max_rows(self) -> int:
        return self._exclusive.max_rows

    def new_slot(self) -> Slot:
        return self._exclusive.new_slot()

    def accepts_on_device(self, sampling: bool) -> bool:
        return self._exclusive.accepts_on_device(sampling)

    def step(
        self, slots: Sequence[Slot], token_ids: Ints, row_lengths: Ints, used: Ints, logit_rows: Ints
    ) -> VerifyOutput:
        with self._turns.turn(*self._engines) as engine:
            return self._turns.lasting(engine.step(slots, token_ids, row_lengths, used, logit_rows))

    def step_and_accept(
        self,
        slots: Sequence[Slot],
        token_ids: Ints,
        row_lengths: Ints,
        used: Ints,
        logit_rows: Ints,
        inputs: AcceptInputs,
    ) -> VerifyOutput:
        with self._turns.turn(*self._engines) as engine:
            output = engine.step_and_accept(slots, token_ids, row_lengths, used, logit_rows, inputs)
            return self._turns.lasting(output)


class _DraftTurns(DraftEngine):
    def __init__(self, turns: EngineTurns, cohort: int) -> None:
        self._turns = turns
        self._exclusive = turns.pool.exclusive.draft
        self._engines = ("draft", cohort, self._exclusive, [engines.draft for engines in turns.pool.shared])

    @property
    def max_rows(self) -> int:
        return self._exclusive.max_rows

    def new_slot(self) -> Slot:
        return self._exclusive.new_slot()

    def step(
        self,
        slots: Sequence[Slot],
        features: Floats,
        feature_lengths: Ints,
        used: Ints,
        anchor_ids: Ints,
        temperature: Floats,
        uniforms: Floats,
        next_ids: Ints | None = None,
    ) -> DraftOutput:
        with self._turns.turn(*self._engines) as engine:
            output = engine.step(slots, features, feature_lengths, used, anchor_ids, temperature, uniforms, next_ids)
            return self._turns.lasting(output)
