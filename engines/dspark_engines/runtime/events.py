"""What a request's stream says."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from dspark_engines.errors import DsparkError
from dspark_engines.runtime.request import GenerationRequest
from dspark_engines.runtime.result import GenerationResult


@dataclass(frozen=True)
class Tokens:
    """New token ids, in order, and when the round that brought them ended (seconds of `time.perf_counter`)."""

    token_ids: list[int]
    at: float = field(default_factory=time.perf_counter, compare=False)


@dataclass(frozen=True)
class Finished:
    """The last event of a request that ended by itself or was cancelled."""

    result: GenerationResult


@dataclass(frozen=True)
class Failed:
    """The last event of a request that the runtime could not finish."""

    error: Exception


Event = Tokens | Finished | Failed


class RequestStream:
    """Events of one request, in order, from the runtime's thread to the caller's."""

    def __init__(self, request: GenerationRequest) -> None:
        self.request = request
        self.cancelled = False
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def __iter__(self) -> Iterator[Event]:
        """Block for each event; ends after `Finished` or `Failed`."""
        while True:
            event = self._events.get()
            yield event
            if not isinstance(event, Tokens):
                return

    def cancel(self) -> None:
        """Stop after the current round; what was produced by then is the result (`stop` "cancelled")."""
        self.cancelled = True

    def result(self) -> GenerationResult:
        """Wait for the end. Raises `DsparkError` when the runtime failed, `GenerationError` when this request did."""
        for event in self:
            if isinstance(event, Finished):
                return event.result
            if isinstance(event, Failed):
                if isinstance(event.error, DsparkError):
                    raise event.error
                hint = "see the log of the logger dspark_engines"
                raise DsparkError(f"generation failed: {event.error}", hint=hint) from event.error
        raise AssertionError("a stream ends with Finished or Failed")

    def put(self, event: Event) -> None:
        """For the runtime."""
        self._events.put(event)
