"""Who used which engine when: one cohort at a time on each, and a record that Chrome's trace viewer shows."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from dspark_engines.backends import DraftEngine, DraftOutput, Engine, Engines, Slot, VerifyEngine, VerifyOutput

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
        self._locks = {engine: threading.Lock() for engine in ENGINES}
        self.spans: deque[Span] = deque(maxlen=KEPT)

    @contextmanager
    def turn(self, engine: str, cohort: int) -> Iterator[None]:
        """Have `engine` to oneself; the time is recorded."""
        with self._locks[engine]:
            begin = time.perf_counter()
            try:
                yield
            finally:
                self.spans.append(Span(engine, cohort, begin, time.perf_counter()))

    def seconds(self) -> float:
        """From the first step's begin to the last one's end, of those that are remembered."""
        spans = list(self.spans)  # a copy: engines may be at work
        return max(span.end for span in spans) - min(span.begin for span in spans) if spans else 0.0

    def idle_share(self, engine: str) -> float:
        """Share of `seconds` in which this engine did nothing."""
        busy = sum(span.end - span.begin for span in list(self.spans) if span.engine == engine)
        return 1.0 - busy / seconds if (seconds := self.seconds()) > 0 else 0.0

    def overlap_seconds(self) -> float:
        """Time in which both engines were at work. One engine's steps never overlap, so one pass over both will do."""
        spans = list(self.spans)
        draft, verify = (deque(span for span in spans if span.engine == engine) for engine in ENGINES)
        total = 0.0
        while draft and verify:
            a, b = draft[0], verify[0]
            total += max(0.0, min(a.end, b.end) - max(a.begin, b.begin))
            (draft if a.end <= b.end else verify).popleft()
        return total

    def write(self, path: Path) -> None:
        """Write Chrome's trace format: one row an engine, a colour a cohort, microseconds."""
        spans = list(self.spans)
        start = min((span.begin for span in spans), default=0.0)
        events: list[dict[str, Any]] = [
            {"name": "thread_name", "ph": "M", "pid": 0, "tid": row, "args": {"name": engine}}
            for row, engine in enumerate(ENGINES)
        ]
        events += [
            {
                "name": f"{span.engine} cohort {span.cohort}",
                "ph": "X",
                "pid": 0,
                "tid": ENGINES.index(span.engine),
                "ts": 1e6 * (span.begin - start),
                "dur": 1e6 * (span.end - span.begin),
            }
            for span in spans
        ]
        path.write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}), "utf-8")


def take_turns(engines: Engines, timeline: Timeline, cohort: int) -> Engines:
    """The same engines as one cohort sees them: each step waits for its turn."""
    return Engines(_Verify(engines.verify, timeline, cohort), _Draft(engines.draft, timeline, cohort))


class _TurnTaker(Engine):
    """What both engines forward as it is."""

    def __init__(self, engine: Any, timeline: Timeline, cohort: int) -> None:
        self._engine, self._timeline, self._cohort = engine, timeline, cohort

    @property
    def max_rows(self) -> int:
        rows: int = self._engine.max_rows
        return rows

    def new_slot(self) -> Slot:
        return self._engine.new_slot()


class _Verify(_TurnTaker, VerifyEngine):
    def step(self, *args: Any, **kwargs: Any) -> VerifyOutput:
        with self._timeline.turn("verify", self._cohort):
            output: VerifyOutput = self._engine.step(*args, **kwargs)
        return output


class _Draft(_TurnTaker, DraftEngine):
    def step(self, *args: Any, **kwargs: Any) -> DraftOutput:
        with self._timeline.turn("draft", self._cohort):
            output: DraftOutput = self._engine.step(*args, **kwargs)
        return output
