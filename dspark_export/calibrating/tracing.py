"""Generate prompt after prompt, verifying whole blocks, and store what the drafter said and what came of it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dspark_calibration import PromptTrace, TraceHeader, TraceStore
from dspark_engines import Bundle, GenerationRequest, Generator
from dspark_engines.arrays import Ints
from dspark_engines.backends import get_backend
from dspark_engines.errors import BackendError
from dspark_engines.measured import resolve_engines
from dspark_engines.progress import Reporter
from dspark_engines.runtime import Drafts, Outcome
from dspark_export.calibrating.errors import unwritable
from dspark_export.calibrating.plan import Shard, TracePlan, requests, trace_header
from dspark_export.prompts import Prompt


class Recorder:
    """Collects the rounds of one prompt."""

    def __init__(self, block_size: int, score_count: int = 0) -> None:
        self._block_size, self._score_count = block_size, score_count
        self.clear()

    def clear(self) -> None:
        """Forget all rounds."""
        self._logits: list[np.ndarray] = []
        self._scores: list[np.ndarray] = []
        self._counts: list[tuple[int, int, int]] = []

    def __call__(self, drafts: Drafts, lengths: Ints, outcomes: Sequence[Outcome]) -> None:
        """See `dspark_engines.runtime.RoundObserver`."""
        rows = zip(drafts.states, drafts.confidence_logits, lengths.tolist(), outcomes, strict=True)
        for state, logits, length, outcome in rows:
            self._logits.append(np.array(logits, np.float32))
            self._counts.append((length, outcome.accepted, state.used))
        if self._score_count:
            self._scores += list(np.array(drafts.scores, np.float32))

    def trace(self) -> PromptTrace:
        """What was collected."""
        logits = np.array(self._logits, np.float32).reshape(-1, self._block_size)
        counts = np.array(self._counts, np.int64).reshape(-1, 3)
        scores = None
        if self._score_count:
            scores = np.array(self._scores, np.float32).reshape(-1, self._block_size, self._score_count)
        return PromptTrace(
            logits, counts[:, 0].astype(np.int16), counts[:, 1].astype(np.int16), counts[:, 2].astype(np.int32), scores
        )


def trace_prompts(
    bundle: Bundle,
    prompts: Sequence[Prompt],
    plan: TracePlan,
    folder: Path,
    reporter: Reporter,
    shard: Shard | None = None,
) -> TraceStore:
    """Trace the prompts (of one shard) that have no trace in `folder` yet.

    Raises `DsparkError`; whatever happens, finished prompts stay and the next run goes on behind them.
    """
    header = trace_header(bundle, prompts, plan)
    asked = requests(bundle, prompts, plan)
    store = _create(folder, header)
    mine = [i for i in range(len(prompts)) if shard is None or shard.holds(i)]
    todo = [i for i in store.missing() if i in set(mine)]
    if todo:
        _trace(bundle, plan, store, {i: asked[i] for i in todo}, len(mine), reporter)
    return store


def _create(folder: Path, header: TraceHeader) -> TraceStore:
    try:
        return TraceStore.create(folder, header)
    except OSError as error:
        raise unwritable(folder, error) from error


def _trace(
    bundle: Bundle,
    plan: TracePlan,
    store: TraceStore,
    todo: dict[int, GenerationRequest],
    total: int,
    reporter: Reporter,
) -> None:
    step, recorder = reporter.step("tracing"), Recorder(store.header.block_size, len(store.header.scores))
    step(total - len(todo), total)
    with get_backend(plan.backend).open(bundle, resolve_engines(bundle, plan.backend, plan.engines)) as engines:
        generator = Generator(engines, bundle.manifest, recorder)
        for done, (index, request) in enumerate(todo.items(), 1):
            recorder.clear()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # a drafter that fails is an error here, see below
                generator.run(request)
            if generator.speculation_failed:
                raise BackendError(
                    f"the draft engine failed on prompt {store.header.prompts[index].id}: "
                    f"{generator.speculation_failed}",
                    hint="check the bundle: dspark-export check",
                )
            try:
                store.write(index, recorder.trace())
            except OSError as error:
                raise unwritable(store.path, error) from error
            step(total - len(todo) + done, total)
