"""Who used which engine when: a record that Chrome's trace viewer shows."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from dspark_engines.bundle import write_file

ENGINES = ("draft", "verify")
KEPT = 50_000
"""Steps that are remembered: most of an hour, and a few megabytes, however long a runtime lives."""


class Span(NamedTuple):
    """One step: engine, cohort, begin and end in seconds of `time.perf_counter`."""

    engine: str
    cohort: int
    begin: float
    end: float


class Timeline:
    """The last steps of both engines, in the order in which they ended. Safe for several threads."""

    def __init__(self) -> None:
        self.spans: deque[Span] = deque(maxlen=KEPT)

    def seconds(self) -> float:
        """From the first step's begin to the last one's end, of those that are remembered."""
        spans = list(self.spans)  # a copy: engines may be at work
        return max(span.end for span in spans) - min(span.begin for span in spans) if spans else 0.0

    def idle_share(self, engine: str) -> float:
        """Share of `seconds` in which no cohort ran this engine."""
        busy = _seconds_of(1, (span for span in list(self.spans) if span.engine == engine))
        return 1.0 - busy / seconds if (seconds := self.seconds()) > 0 else 0.0

    def overlap_seconds(self) -> float:
        """Time in which two steps were at work."""
        return _seconds_of(2, list(self.spans))

    def write(self, path: Path) -> None:
        """Write Chrome's trace format: one row an engine and cohort, microseconds. Raises `OutputError`."""
        spans = list(self.spans)
        start = min((span.begin for span in spans), default=0.0)
        rows = sorted({(span.cohort, ENGINES.index(span.engine)) for span in spans})
        events: list[dict[str, Any]] = [
            {
                "name": "thread_name",
                "ph": "M",
                "pid": 0,
                "tid": row,
                "args": {"name": f"cohort {cohort}: {ENGINES[engine]}"},
            }
            for row, (cohort, engine) in enumerate(rows)
        ]
        events += [
            {
                "name": f"{span.engine} cohort {span.cohort}",
                "ph": "X",
                "pid": 0,
                "tid": rows.index((span.cohort, ENGINES.index(span.engine))),
                "ts": 1e6 * (span.begin - start),
                "dur": 1e6 * (span.end - span.begin),
            }
            for span in spans
        ]
        write_file(path, json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}))


def _seconds_of(depth: int, spans: Iterable[Span]) -> float:
    """Time in which at least `depth` of the spans go on."""
    ends = sorted(edge for span in spans for edge in ((span.begin, 1), (span.end, -1)))
    total, running, before = 0.0, 0, 0.0
    for moment, change in ends:
        total += moment - before if running >= depth else 0.0
        running, before = running + change, moment
    return total
