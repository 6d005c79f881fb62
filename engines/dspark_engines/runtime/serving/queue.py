"""Who waits for a place, and in which cohort the next one gets it."""

from __future__ import annotations

import threading
from collections import deque

from dspark_engines.errors import RequestError
from dspark_engines.runtime.events import RequestStream


class WaitingRoom:
    """Requests that no cohort has taken yet: bounded, first come first served, shared between threads."""

    def __init__(self, limit: int) -> None:
        self._limit, self._queue = limit, deque[RequestStream]()
        self.seat([], 0)
        self._changed = threading.Condition()
        self.closed = False
        self.abandoned = False

    def seat(self, places: list[int], pairs_from: int) -> None:
        """Give every cohort its number of places, before any of them takes a request.

        Fewer than `pairs_from` requests in flight stay together in the first cohort that has room, more are spread
        evenly.
        """
        self._places, self._pairs_from, self._seated = places, pairs_from, [0] * len(places)

    def put(self, stream: RequestStream) -> None:
        """Raises `RequestError` at once when the room is full or closed."""
        with self._changed:
            if self.closed:
                raise RequestError("the runtime is closed", hint="submit inside its `with` block")
            if len(self._queue) >= self._limit:
                raise RequestError(
                    f"the queue is full: {self._limit} requests are waiting",
                    hint="try again later, or give the runtime a larger max_queue",
                )
            self._queue.append(stream)
            self._changed.notify_all()

    def take(self, cohort: int) -> RequestStream | None:
        """The longest waiting request, which has a place in `cohort` until it `leave`s; None if nobody shall."""
        with self._changed:
            if not self._queue or self._next() != cohort:
                return None
            self._seated[cohort] += 1
            self._changed.notify_all()  # the next one may be for another cohort
            return self._queue.popleft()

    def leave(self, cohort: int) -> None:
        """A place has become free."""
        with self._changed:
            self._seated[cohort] -= 1
            self._changed.notify_all()

    def exclusive(self, cohort: int) -> bool:
        """Whether no other cohort has requests, as far as one can tell without waiting."""
        return sum(self._seated) == self._seated[cohort]

    def close(self, *, abandon: bool) -> None:
        """No more requests; threads leave when all is done, or after the current round if it is abandoned."""
        with self._changed:
            self.closed, self.abandoned = True, abandon
            self._changed.notify_all()

    def wait(self, cohort: int) -> bool:
        """Block an empty cohort until there may be work for it; False when closed and empty."""
        with self._changed:
            while not (self.closed and not self._queue) and not (self._queue and self._next() == cohort):
                self._changed.wait()
            return bool(self._queue)

    def _next(self) -> int | None:
        """The cohort whose turn it is to take a request."""
        free = [cohort for cohort, places in enumerate(self._places) if self._seated[cohort] < places]
        if free and sum(self._seated) + 1 < self._pairs_from:
            return free[0]
        return min(free, key=lambda cohort: self._seated[cohort], default=None)
