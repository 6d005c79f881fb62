"""Who waits for a slot, and in which cohort the next one gets it."""

from __future__ import annotations

import threading
from collections import deque

from dspark_engines.errors import RequestError
from dspark_engines.runtime.events import RequestStream


class AdmissionQueue:
    """Requests that no cohort has taken yet: bounded, first come first served, shared between threads."""

    def __init__(self, limit: int) -> None:
        self._limit, self._waiting = limit, deque[RequestStream]()
        self.set_slots([], 0)
        self._changed = threading.Condition()
        self.closed = False
        self.abandoned = False

    def set_slots(self, slots: list[int], pairs_from: int) -> None:
        """Give every cohort its number of slots, before any of them takes a request.

        Fewer than `pairs_from` requests in flight stay together in the first cohort that has a slot, more are spread
        evenly.
        """
        self._slots, self._pairs_from, self._taken = slots, pairs_from, [0] * len(slots)

    def put(self, stream: RequestStream) -> None:
        """Raises `RequestError` at once when the queue is full or closed."""
        with self._changed:
            if self.closed:
                raise RequestError("the runtime is closed", hint="submit inside its `with` block")
            if len(self._waiting) >= self._limit:
                raise RequestError(
                    f"the queue is full: {self._limit} requests are waiting",
                    hint="try again later, or give the runtime a larger max_queue",
                )
            self._waiting.append(stream)
            self._changed.notify_all()

    def take(self, cohort: int) -> RequestStream | None:
        """The longest waiting request, which has a slot in `cohort` until it is released; None if nobody shall."""
        with self._changed:
            if not self._waiting or self._next() != cohort:
                return None
            self._taken[cohort] += 1
            self._changed.notify_all()  # the next one may be for another cohort
            return self._waiting.popleft()

    def release(self, cohort: int) -> None:
        """A slot has become free."""
        with self._changed:
            self._taken[cohort] -= 1
            self._changed.notify_all()

    def exclusive(self, cohort: int) -> bool:
        """Whether no other cohort has requests, as far as one can tell without waiting."""
        return sum(self._taken) == self._taken[cohort]

    def close(self, *, abandon: bool) -> None:
        """No more requests; threads leave when all is done, or after the current round if it is abandoned."""
        with self._changed:
            self.closed, self.abandoned = True, abandon
            self._changed.notify_all()

    def wait(self, cohort: int) -> bool:
        """Block an empty cohort until there may be work for it; False when closed and empty."""
        with self._changed:
            while not (self.closed and not self._waiting) and not (self._waiting and self._next() == cohort):
                self._changed.wait()
            return bool(self._waiting)

    def _next(self) -> int | None:
        """The cohort whose turn it is to take a request."""
        free = [cohort for cohort, slots in enumerate(self._slots) if self._taken[cohort] < slots]
        if free and sum(self._taken) + 1 < self._pairs_from:
            return free[0]
        return min(free, key=lambda cohort: self._taken[cohort], default=None)
