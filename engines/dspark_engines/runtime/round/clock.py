"""Where a request's time went: the one place that writes its `Seconds`."""

from __future__ import annotations

import time
from collections.abc import Callable

from dspark_engines.runtime.result import Seconds


class RequestClock:
    """Runs from the moment it is made. Engine time counts from the first token on; what came before is prefill.

    `now` gives seconds.
    """

    def __init__(self, seconds: Seconds, now: Callable[[], float] = time.perf_counter) -> None:
        self._seconds, self._now, self._begin = seconds, now, now()
        self._first: float | None = None

    def drafted(self, seconds: float) -> None:
        """The draft engine worked for this request."""
        if self._first is not None:
            self._seconds.draft += seconds

    def verified(self, seconds: float) -> None:
        """The verify engine worked for this request."""
        if self._first is not None:
            self._seconds.verify += seconds

    def gained(self) -> None:
        """Tokens have arrived."""
        if self._first is None:
            self._first = self._now()
            self._seconds.prefill = self._first - self._begin

    def stop(self) -> None:
        """The request has ended. `other` is not negative, though engines have clocks of their own."""
        end, seconds = self._now(), self._seconds
        if self._first is None:
            seconds.prefill = end - self._begin
        else:
            seconds.other = max(0.0, end - self._first - seconds.draft - seconds.verify)
