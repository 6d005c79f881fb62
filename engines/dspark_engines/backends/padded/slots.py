"""Places in the stacked caches: a slot is a row of them, given back when nobody holds it any more."""

from __future__ import annotations

import gc
import heapq
import threading
import weakref

from dspark_engines.errors import BackendError


class PaddedSlot:
    """One request's row of every cache [R, Hkv, C, D]."""

    def __init__(self, place: int) -> None:
        self.place = place


class SlotPool:
    """Hands out the lowest free place, so that steps stay on small shapes. Safe for several threads."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._free, self._lock = list(range(size)), threading.RLock()  # a finalizer may run while it is held

    def take(self) -> PaddedSlot:
        """A place for one request. Raises `BackendError` when all are held."""
        if not self._free:
            gc.collect()  # a slot may be held by a cycle that nobody reaches
        with self._lock:
            if not self._free:
                raise BackendError(f"all {self.size} cache slots are in use", hint="build the bundle with more --slots")
            slot = PaddedSlot(heapq.heappop(self._free))
        weakref.finalize(slot, self._give_back, slot.place).atexit = False
        return slot

    def _give_back(self, place: int) -> None:
        with self._lock:
            heapq.heappush(self._free, place)
