"""How a bundle's engines share this machine's cores: all sensible layouts measured side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from dspark_engines.backends import EngineOptions, Engines, get_backend
from dspark_engines.bundle import Bundle
from dspark_engines.machine import usable_cores
from dspark_engines.measured import CoreLayout, LayoutTiming, MeasuredLayout, take_fingerprint
from dspark_engines.profiling.bench import Bench, Step
from dspark_engines.profiling.turns import alternate, quartiles

GAIN = 0.05
"""Two cohorts hold two more pairs of engines in memory: they have to be faster by more than this share."""
REPEATS = 2
PARTS = (1, 2, 4)
"""Threads that are tried: all cores over these."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PlacementPlan:
    """What to measure: numbers of requests, at how many tokens of context, how often."""

    requests: Sequence[int]
    context: int = 256
    samples: int = 9
    seed: int = 0


def place(bundle: Bundle, backend: str, plan: PlacementPlan, progress: Progress) -> MeasuredLayout:
    """Measure rounds under every layout, and choose: one that drafts and verifies half a block, and a plain one.

    First the threads of engines that have the machine to themselves, by a round of one request, and whether they had
    better spin; then, for every larger number of requests, two cohorts against that.
    """
    cores = usable_cores()
    pairs = _pairs(cores) if get_backend(backend).own_engines else []
    larger = [requests for requests in sorted(set(plan.requests)) if requests > 1] if pairs else []
    measured = partial(_LayoutTimer, bundle, backend, plan, _Parts(progress, 2 + len(larger)))
    with measured() as timings:
        found = timings.run(1, _singles(cores))
    exclusive = _fastest(found)
    with measured() as timings:  # by itself: engines that spin slow all others down for as long as they are open
        found += timings.run(1, [exclusive.model_copy(update={"spinning": True})])
    exclusive = _fastest(found)
    with measured() as timings:
        for requests in larger:
            found += timings.run(requests, [exclusive, *pairs])
    shared, pairs_from = choose_pairs(found, exclusive)
    fingerprint = take_fingerprint(bundle, backend, EngineOptions())
    return MeasuredLayout(
        fingerprint=fingerprint, exclusive=exclusive, shared=shared, pairs_from=pairs_from, timings=found
    )


def choose_pairs(timings: Sequence[LayoutTiming], exclusive: CoreLayout) -> tuple[CoreLayout | None, int]:
    """The pair of cohorts that is fastest with most requests, and from how many on it gains at every number measured.

    (None, 0) where it gains with none.
    """
    seconds = {(timing.requests, timing.layout): timing.seconds for timing in timings}
    pairs = {timing.layout for timing in timings if timing.layout.cohorts == 2}
    numbers = sorted({timing.requests for timing in timings if timing.layout in pairs}, reverse=True)
    if not numbers:
        return None, 0
    best = min(pairs, key=lambda pair: (seconds[numbers[0], pair], pair.threads))
    least = 0
    for requests in numbers:
        if not seconds[requests, best] < (1.0 - GAIN) * seconds[requests, exclusive]:
            break
        least = requests
    return (best, least) if least else (None, 0)


def _fastest(timings: Sequence[LayoutTiming]) -> CoreLayout:
    """Of one request; spinning has to gain, because it takes cores from others."""
    return min(timings, key=lambda t: t.seconds * (1.0 + GAIN * t.layout.spinning)).layout


def _singles(cores: int) -> list[CoreLayout]:
    threads = sorted({max(1, cores // part) for part in PARTS}, reverse=True)
    return [CoreLayout(cohorts=1, threads=n) for n in threads]


def _pairs(cores: int) -> list[CoreLayout]:
    threads = sorted({max(1, cores // (2 * part)) for part in PARTS[:2]}, reverse=True)
    return [CoreLayout(cohorts=2, threads=n) for n in threads] if cores > 1 else []


class _Parts:
    """Progress of parts that are equally long."""

    def __init__(self, progress: Progress, parts: int) -> None:
        self._progress, self._parts, self._done = progress, parts, 0

    def tell(self, share: float) -> None:
        """So much of the present part is done; with all of it the next one begins."""
        self._progress(round(100 * (self._done + share)), 100 * self._parts)
        self._done += share >= 1.0


class _LayoutTimer:
    """Layouts measured in turns, on engines that stay open between them."""

    def __init__(self, bundle: Bundle, backend: str, plan: PlacementPlan, parts: _Parts) -> None:
        self._bundle, self._backend, self._plan, self._parts = bundle, backend, plan, parts
        self._stack, self._opened = ExitStack(), dict[tuple[CoreLayout, int], Engines]()
        self._length = bundle.manifest.drafter.block_size // 2 + 1

    def __enter__(self) -> _LayoutTimer:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def run(self, requests: int, layouts: Sequence[CoreLayout]) -> list[LayoutTiming]:
        """A timing of each; they take turns in random order, so that a drifting machine favours none."""
        rounds = {layout: self._prepare(requests, layout) for layout in layouts}
        times = alternate(rounds, lambda seconds: self._plan.samples, self._plan.seed, self._parts.tell)
        return [LayoutTiming(requests=requests, layout=each, **quartiles(found)) for each, found in times.items()]

    def _prepare(self, requests: int, layout: CoreLayout) -> Step:
        sizes = [requests] if layout.cohorts == 1 else [requests - requests // 2, requests // 2]
        benches = [
            Bench(self._bundle, self._engines(layout, cohort), rows, self._plan.context)
            for cohort, rows in enumerate(sizes)
        ]
        return partial(_rounds, benches, self._length)

    def _engines(self, layout: CoreLayout, cohort: int) -> Engines:
        if (layout, cohort) not in self._opened:
            opening = get_backend(self._backend).open(self._bundle, layout.engines)
            self._opened[layout, cohort] = self._stack.enter_context(opening)
        return self._opened[layout, cohort]


def _rounds(benches: Sequence[Bench], length: int) -> float:
    """Seconds of two rounds of all, each bench in a thread of its own."""

    def work(bench: Bench) -> None:
        for _ in range(REPEATS):
            bench.rounds(length)

    with ThreadPoolExecutor(len(benches)) as pool:
        started = time.perf_counter()
        list(pool.map(work, benches))  # which raises what a thread raised
        return (time.perf_counter() - started) / REPEATS
