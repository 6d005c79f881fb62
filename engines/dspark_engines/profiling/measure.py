"""Measure both engines of a bundle on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from dspark_engines.backends import Engines, Slot
from dspark_engines.bundle import Bundle
from dspark_engines.costs.fingerprint import Fingerprint
from dspark_engines.costs.table import CostTable, Timing
from dspark_engines.runtime import GenerationRequest, Generator

FEATURES = 2  # tokens a row that a draft step takes in: about what a round accepts
OVERHEAD_TOKENS = 24
Progress = Callable[[int, int], None]
Step = Callable[[], float]


@dataclass(frozen=True)
class ProfilePlan:
    """What to measure: batch sizes, context lengths, and how often."""

    rows: Sequence[int]
    contexts: Sequence[int]
    samples: int = 7
    seed: int = 0


def measure(
    bundle: Bundle, engines: Engines, plan: ProfilePlan, fingerprint: Fingerprint, progress: Progress
) -> CostTable:
    """Time every kind of step; kinds take turns in random order, so that a drifting machine favours none."""
    verify: list[Timing] = []
    draft: list[Timing] = []
    total = len(plan.rows) * len(plan.contexts)
    for done, (rows, context) in enumerate((r, c) for r in plan.rows for c in plan.contexts):
        bench = _Bench(bundle, engines, rows, context)
        steps = dict(bench.steps())
        for (kind, tokens), times in _alternate(steps, plan.samples, plan.seed).items():
            low, middle, high = (float(x) for x in np.percentile(times, (25, 50, 75)))
            timing = Timing(
                rows=rows, context=context, tokens=tokens, seconds=middle, low=low, high=high, samples=len(times)
            )
            (verify if kind == "verify" else draft).append(timing)
        progress(done + 1, total)
    return CostTable(
        fingerprint=fingerprint, verify=verify, draft=draft, overhead_seconds=_overhead(bundle, engines, plan.seed)
    )


class _Bench:
    """Rows with filled caches, ready to be stepped again and again from the same place."""

    def __init__(self, bundle: Bundle, engines: Engines, rows: int, context: int) -> None:
        self._manifest, self._engines, self._rows, self._context = bundle.manifest, engines, rows, context
        self._random = np.random.default_rng(0)
        self._slots: list[Slot] = [engines.verify.new_slot() for _ in range(rows)]
        self._draft_slots: list[Slot] = [engines.draft.new_slot() for _ in range(rows)]
        self._fill()

    def steps(self) -> Iterator[tuple[tuple[str, int], Step]]:
        """(engine, tokens of all rows) and a function that runs such a step and returns its seconds."""
        block = self._manifest.drafter.block_size
        for length in range(1, block + 2):
            yield ("verify", self._rows * length), partial(self._verify, length, self._context)
        yield ("draft", self._rows * block), partial(self._draft, FEATURES, self._context)

    def _fill(self) -> None:
        """Bring all rows to the context length, in chunks; features go to the drafter as they come."""
        chunk = max(1, self._manifest.limits.prefill_chunk // self._rows)
        for start in range(0, self._context, chunk):
            length = min(chunk, self._context - start)
            self._verify(length, start)
            self._draft(length, start)

    def _verify(self, length: int, used: int) -> float:
        rows, tokens = self._rows, self._rows * length
        ids = self._random.integers(0, self._manifest.target.vocab_size, tokens)
        started = time.perf_counter()
        self._engines.verify.step(self._slots, ids, np.full(rows, length), np.full(rows, used), np.arange(tokens))
        return time.perf_counter() - started

    def _draft(self, length: int, used: int) -> float:
        rows, info = self._rows, self._manifest.drafter
        features = self._random.standard_normal((rows * length, info.feature_size), np.float32)
        started = time.perf_counter()
        self._engines.draft.step(
            self._draft_slots,
            features,
            np.full(rows, length),
            np.full(rows, used),
            np.zeros(rows, np.int64),
            np.zeros(rows, np.float32),
            np.zeros((rows, info.block_size), np.float32),
        )
        return time.perf_counter() - started


def _alternate(steps: dict[tuple[str, int], Step], samples: int, seed: int) -> dict[tuple[str, int], list[float]]:
    times: dict[tuple[str, int], list[float]] = {key: [] for key in steps}
    random, keys = np.random.default_rng(seed), list(steps)
    for sample in range(samples + 1):
        for index in random.permutation(len(keys)):
            seconds = steps[keys[index]]()
            if sample:  # the first turn warms up
                times[keys[index]].append(seconds)
    return times


def _overhead(bundle: Bundle, engines: Engines, seed: int) -> float:
    """Seconds a round spends outside the engines, from a short generation."""
    prompt = np.random.default_rng(seed).integers(0, bundle.manifest.target.vocab_size, 8).tolist()
    result = Generator(engines, bundle.manifest).run(GenerationRequest(prompt, OVERHEAD_TOKENS))
    return result.seconds.other / max(1, len(result.rounds))
