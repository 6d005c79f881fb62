"""Steps of both engines to be timed, on caches that are filled with random tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from dspark_engines.arrays import Ints
from dspark_engines.backends import Engines, Slot
from dspark_engines.bundle import Bundle
from dspark_engines.sampling.contract import AcceptInputs

FEATURES = 2
"""Tokens a row that a draft step takes in: about what a round accepts."""
MISSED = 64
"""Tokens a row that a draft step takes in when it has to catch up."""
Step = Callable[[], float]


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


class Bench:
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

    def reading(self) -> tuple[float, int]:
        """Seconds that a draft step takes longer when it reads more, and by how many tokens of all rows more."""
        more = max(0, min(MISSED, self._context) - FEATURES)
        few = self._draft(FEATURES, self._context - more)
        return self._draft(FEATURES + more, self._context - more) - few, self._rows * more

    def rounds(self, length: int) -> None:
        """One that drafts and verifies `length` tokens of every row, and a plain one."""
        self._draft(FEATURES, self._context)
        self._verify(self._rows * length, self._context, self._rows * length)
        self._verify(self._rows, self._context, self._rows)

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
        step = (self._slots, ids, lengths, np.full(rows, used), np.arange(logits))
        engine = self._engines.verify
        run = partial(engine.step, *step)
        if logits == tokens and engine.accepts_on_device(sampling=False):
            run = partial(engine.step_and_accept, *step, self._accept_inputs(lengths))
        started = time.perf_counter()
        run()
        return time.perf_counter() - started

    def _accept_inputs(self, lengths: Ints) -> AcceptInputs:
        """Greedy rows, all of whose tokens but the first are drafts."""
        rows, block = self._rows, self._manifest.drafter.block_size
        drafts, greedy = np.zeros((rows, block), np.int64), np.zeros(rows, np.float32)
        uniforms = np.zeros((rows, int(lengths.max()), 2), np.float32)
        return AcceptInputs(drafts, np.empty((rows, block, 0), np.float32), lengths - 1, greedy, uniforms)

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
            np.zeros(rows * length, np.int64),
        )
        return time.perf_counter() - started
