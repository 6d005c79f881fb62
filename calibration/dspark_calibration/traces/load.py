"""From a folder of traces to rounds in memory: 8 bytes a position and round."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dspark_calibration.errors import CalibrationError
from dspark_calibration.traces.rounds import Rounds
from dspark_calibration.traces.store import PromptTrace, TraceStore


def load_rounds(store: TraceStore, advance: Callable[[int, int], None] | None = None) -> Rounds:
    """All rounds that verified their whole block. Raises `CalibrationError` while traces are missing."""
    if missing := store.missing():
        raise CalibrationError(
            f"{store.path}: {len(missing)} of {len(store.header.prompts)} prompts have no trace, "
            f"the first is {store.header.prompts[missing[0]].id}",
            hint="run dspark-export calibrate again: it goes on where it stopped; or merge the missing shard as well",
        )
    count, parts = len(store.header.prompts), []
    for index in range(count):
        parts.append(_whole_blocks(store.read(index), index))
        if advance is not None:
            advance(index + 1, count)
    return _joined(parts)


def _whole_blocks(trace: PromptTrace, prompt: int) -> Rounds:
    """Of one prompt's rounds those that verified their whole block; how many others there are, and why."""
    logits = trace.confidence_logits
    full, nothing = trace.proposed == logits.shape[1], np.isneginf(logits[:, 0])
    return Rounds(
        logits[full].astype(np.float64),
        trace.accepted[full].astype(np.int64),
        trace.context[full].astype(np.int64),
        np.full(int(full.sum()), prompt),
        cut=int((~full & ~nothing).sum()),
        empty=int(nothing.sum()),
        scores=None if trace.scores is None else trace.scores[full].astype(np.float64),
    )


def _joined(parts: Sequence[Rounds]) -> Rounds:
    scores = [part.scores for part in parts if part.scores is not None]
    return Rounds(
        np.concatenate([part.logits for part in parts]),
        np.concatenate([part.accepted for part in parts]),
        np.concatenate([part.context for part in parts]),
        np.concatenate([part.prompt for part in parts]),
        cut=sum(part.cut for part in parts),
        empty=sum(part.empty for part in parts),
        scores=np.concatenate(scores) if scores else None,
    )
