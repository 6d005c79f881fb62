"""From a folder of traces to rounds in memory: 8 bytes a position and round."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dspark_calibration.errors import CalibrationError
from dspark_calibration.traces.rounds import Rounds
from dspark_calibration.traces.store import TraceStore


def load_rounds(store: TraceStore, advance: Callable[[int, int], None] | None = None) -> Rounds:
    """All rounds that verified their whole block. Raises `CalibrationError` while traces are missing."""
    if missing := store.missing():
        raise CalibrationError(
            f"{store.path}: {len(missing)} of {len(store.header.prompts)} prompts have no trace, "
            f"the first is {store.header.prompts[missing[0]].id}",
            hint="run dspark-export calibrate again: it goes on where it stopped; or merge the missing shard as well",
        )
    g, cut = store.header.block_size, 0
    logits, accepted, context, prompt = [np.empty((0, g))], [], [], []
    for index in range(len(store.header.prompts)):
        trace = store.read(index)
        full = trace.proposed == g
        logits.append(trace.confidence_logits[full].astype(np.float64))
        accepted.append(trace.accepted[full])
        context.append(trace.context[full])
        prompt.append(np.full(int(full.sum()), index))
        cut += int((~full).sum())
        if advance is not None:
            advance(index + 1, len(store.header.prompts))
    counts = [np.concatenate(parts).astype(np.int64) for parts in (accepted, context, prompt)]
    return Rounds(np.concatenate(logits), counts[0], counts[1], counts[2], cut)
