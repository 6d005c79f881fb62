"""One scheduler over one layout of rounds."""

from __future__ import annotations

import numpy as np

from dspark_engines.replay.loads import Deployment
from dspark_engines.replay.outcome import ReplayOutcome, summarise
from dspark_engines.replay.streams import Streams
from dspark_engines.scheduler import AsyncSpec, SchedulerSpec, get_scheduler


def replay(streams: Streams, spec: SchedulerSpec | str, deployment: Deployment) -> ReplayOutcome:
    """Let the scheduler plan every step, and price its plans with the measured cost table.

    It is the runtime's own scheduler. One with a memory sees the steps in turn, others all at once.
    """
    rows = streams.accepted.shape[1]
    cost = deployment.step_cost(rows)
    scheduler = get_scheduler(spec, cost)
    if spec == AsyncSpec.name or isinstance(spec, AsyncSpec):
        pairs = zip(streams.survival, streams.request_ids, strict=True)
        lengths = np.array([scheduler.plan(survival, ids) for survival, ids in pairs])
    else:
        lengths = scheduler.plan(streams.survival, streams.request_ids)
    return summarise(streams, lengths, cost)
