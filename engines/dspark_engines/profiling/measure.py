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
    bundle: Bundle, engines: Engines, plan: ProfilePlan, fingerprint: Fingerprint, progress: Progress
) -> CostTable:
    """Time every kind of step; kinds take turns in random order, so that a drifting machine favours none.

    `progress` is told (done, total) in tokens, those that fill caches included: about what the time goes by.
    """
    verify: list[Timing] = []
    draft: list[Timing] = []
    for rows, context, tell in _shares(plan, bundle.manifest.drafter.block_size, progress):
        bench = _Bench(bundle, engines, rows, context)
        for (kind, tokens), times in _alternate(dict(bench.steps()), plan, tell).items():
            low, middle, high = (float(x) for x in np.percentile(times, (25, 50, 75)))
            timing = Timing(
                rows=rows, context=context, tokens=tokens, seconds=middle, low=low, high=high, samples=len(times)
            )
            (verify if kind == "verify" else draft).append(timing)
    return CostTable(
        fingerprint=fingerprint, verify=verify, draft=draft, overhead_seconds=_overhead(bundle, engines, plan.seed)
    )


def token_counts(rows: int, block_size: int) -> list[int]:
    """Sizes of a verify step of `rows` requests to measure, in tokens of all rows together.

    Every length from the anchors alone to whole blocks, and a point before and one behind every step that an engine
    may have: kernels and compiled sizes change at powers of two, so b and b + 1 for each of them. Between measured
    points `StepCost` draws straight lines, which would make a slope of a step.
    """
    largest = rows * (block_size + 1)
    whole = {rows * length for length in range(1, block_size + 2)}
    powers = (1 << power for power in range(largest.bit_length()))
    return sorted(whole | {n for b in powers for n in (b, b + 1) if rows <= n <= largest})


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
        for tokens in token_counts(self._rows, block):
            yield ("verify", tokens), partial(self._verify, tokens, self._context, tokens)
        yield ("draft", self._rows * block), partial(self._draft, FEATURES, self._context)

    def _fill(self) -> None:
        """Bring all rows to the context length, in chunks; features go to the drafter as they come."""
        chunk = max(1, self._manifest.limits.prefill_chunk // self._rows)
        for start in range(0, self._context, chunk):
            length = min(chunk, self._context - start)
            self._verify(self._rows * length, start, logits=1)  # the output layer is dear and nobody reads it
            self._draft(length, start)

    def _verify(self, tokens: int, used: int, logits: int) -> float:
        """Rows share the tokens as evenly as they can."""
        rows = self._rows
        lengths = np.full(rows, tokens // rows) + (np.arange(rows) < tokens % rows)
        ids = self._random.integers(0, self._manifest.target.vocab_size, tokens)
        started = time.perf_counter()
        self._engines.verify.step(self._slots, ids, lengths, np.full(rows, used), np.arange(logits))
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


def _alternate(
    steps: dict[tuple[str, int], Step], plan: ProfilePlan, tell: Callable[[float], None]
) -> dict[tuple[str, int], list[float]]:
    """Seconds of every kind of step, equally many of each."""
    times: dict[tuple[str, int], list[float]] = {key: [] for key in steps}
    random, keys = np.random.default_rng(plan.seed), list(steps)
    for step in steps.values():  # the first ones of their kind are slow
        step()
    started, turn, turns = time.perf_counter(), 0, 1
    while turn < turns:
        for index in random.permutation(len(keys)):
            times[keys[index]].append(steps[keys[index]]())
        turn += 1
        turns = plan.turns((time.perf_counter() - started) / turn)
        tell(min(1.0, turn / turns))
    return times


def _overhead(bundle: Bundle, engines: Engines, seed: int) -> float:
    """Seconds a round spends outside the engines, from a short generation."""
    prompt = np.random.default_rng(seed).integers(0, bundle.manifest.target.vocab_size, 8).tolist()
    result = Generator(engines, bundle.manifest).run(GenerationRequest(prompt, OVERHEAD_TOKENS))
    return result.seconds.other / max(1, len(result.rounds))
