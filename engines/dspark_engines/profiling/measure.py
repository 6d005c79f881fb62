"""Measure both engines of a bundle on this machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np

from dspark_engines.backends import Engines
from dspark_engines.bundle import Bundle
from dspark_engines.measured.cost_table import CostTable, Timing
from dspark_engines.measured.fingerprint import Fingerprint
from dspark_engines.profiling.bench import Bench, token_counts
from dspark_engines.profiling.turns import alternate, quartiles
from dspark_engines.runtime import GenerationRequest, Generator

OVERHEAD_TOKENS = 24
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ProfilePlan:
    """What to measure: batch sizes, context lengths, and how often.

    Every kind of step is timed `samples` times or more: short ones again and again until a batch size and context
    has had its `seconds`, but never more than `most` times.
    """

    rows: Sequence[int]
    contexts: Sequence[int]
    samples: int = 7
    seed: int = 0
    seconds: float = 8.0
    most: int = 101

    def turns(self, turn_seconds: float) -> int:
        """How often to time every kind of step when one turn of all of them takes so long."""
        return max(self.samples, min(self.most, int(self.seconds / turn_seconds)))


def measure(
    bundle: Bundle,
    engines: Engines,
    plan: ProfilePlan,
    fingerprint: Fingerprint,
    progress: Progress,
    busy: Engines | None = None,
) -> CostTable:
    """Time every kind of step; kinds take turns in random order, so that a drifting machine favours none.

    `progress` is told (done, total) in tokens, those that fill caches included: about what the time goes by.
    `busy`, another cohort's engines, are at work all the time on as many requests.
    """
    verify: list[Timing] = []
    draft: list[Timing] = []
    for rows, context, tell in _shares(plan, bundle.manifest.drafter.block_size, progress):
        for (kind, tokens), times in _times(bundle, engines, busy, rows, context, plan, tell).items():
            timing = Timing(rows=rows, context=context, tokens=tokens, **quartiles(times))
            (verify if kind == "verify" else draft).append(timing)
    return CostTable(
        fingerprint=fingerprint,
        verify=verify,
        draft=draft,
        overhead_seconds=_overhead(bundle, engines, plan.seed),
        reading_seconds=_reading(Bench(bundle, engines, 1, max(plan.contexts)), plan.samples),
    )


def _times(
    bundle: Bundle,
    engines: Engines,
    busy: Engines | None,
    rows: int,
    context: int,
    plan: ProfilePlan,
    tell: Callable[[float], None],
) -> dict[tuple[str, int], list[float]]:
    """Seconds of every kind of step; its cache slots are given back on return, since a bundle may have no more."""
    bench = Bench(bundle, engines, rows, context)
    with _busy(None if busy is None else Bench(bundle, busy, rows, context), bundle):
        return alternate(dict(bench.steps()), plan.turns, plan.seed, tell)


@contextmanager
def _busy(bench: Bench | None, bundle: Bundle) -> Iterator[None]:
    """Rounds of `bench`, one after the other in another thread, for the duration of a `with` block."""
    if bench is None:
        yield
        return
    ended, length = threading.Event(), bundle.manifest.drafter.block_size // 2 + 1

    def work() -> None:
        while not ended.is_set():
            bench.rounds(length)

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        try:
            yield
        finally:
            ended.set()
        working.result()  # raises what the rounds raised


def _shares(
    plan: ProfilePlan, block_size: int, progress: Progress
) -> Iterator[tuple[int, int, Callable[[float], None]]]:
    """(rows, context, whom to tell what share of this pair is done)."""
    turns = plan.samples + 1
    work = {
        (rows, context): rows * context + turns * sum(token_counts(rows, block_size))
        for rows in plan.rows
        for context in plan.contexts
    }
    before, total = 0, sum(work.values())

    def tell(before: int, size: int, share: float) -> None:
        progress(before + round(share * size), total)

    for (rows, context), size in work.items():
        yield rows, context, partial(tell, before, size)
        before += size


def _overhead(bundle: Bundle, engines: Engines, seed: int) -> float:
    """Seconds a round spends outside the engines, from a short generation."""
    prompt = np.random.default_rng(seed).integers(0, bundle.manifest.target.vocab_size, 8).tolist()
    result = Generator(engines, bundle.manifest).run(GenerationRequest(prompt, OVERHEAD_TOKENS))
    return result.seconds.other / max(1, len(result.rounds))


def _reading(bench: Bench, samples: int) -> float:
    """Seconds for each token that a draft step takes in besides, from the median of pairs of steps."""
    pairs = [bench.reading() for _ in range(samples + 1)][1:]
    tokens = pairs[0][1]
    return max(0.0, float(np.median([seconds for seconds, _ in pairs])) / tokens) if tokens else 0.0
