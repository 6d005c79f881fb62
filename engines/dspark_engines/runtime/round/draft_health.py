"""Whether the draft engine is asked for drafts, and what has gone wrong with it."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable

LOG = logging.getLogger("dspark_engines")
LOG.addHandler(logging.NullHandler())  # without one of the host's own, a warning on standard error is enough

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds without drafts after a failure; each failure in a row doubles them."""
MOST_BAD_BLOCKS = 3
"""Blocks in a row with a number that is not finite, after which a request stops drafting."""
MOST_MISSED = 1024
"""Tokens behind its prompt that a request keeps features of while the drafter pauses; with more it stops drafting."""


def failure_text(error: Exception) -> str:
    """An error's kind and what it says, in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


class DraftHealth:
    """Counts failures of one draft engine, and pauses it after each: 1 s, doubling up to 60 s, 1 s again after success.

    `clock` gives seconds. Everything is logged to the logger "dspark_engines"; failures of the engine, and the first
    bad block, are a `RuntimeWarning` as well.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pause, self._until = FIRST_PAUSE, float("-inf")
        self.failures = 0
        """Steps of the draft engine that raised."""
        self.bad_blocks = 0
        """Drafted blocks that held a number that is not finite."""
        self.last_failure = ""
        """The latest of either, in one line."""

    @property
    def pausing(self) -> bool:
        """Nobody drafts for the moment."""
        return self._clock() < self._until

    def failed(self, error: Exception) -> None:
        """The engine raised."""
        self.failures += 1
        self.last_failure = failure_text(error)
        self._until = self._clock() + self._pause
        message = f"the draft engine failed ({self.last_failure}); going on by plain decoding for {self._pause:g} s"
        LOG.warning(message)
        _warn(message)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def succeeded(self) -> None:
        """The engine drafted."""
        self._pause = FIRST_PAUSE

    def bad_block(self, request: int, in_a_row: int) -> None:
        """A block of request number `request` held NaN, as `in_a_row` of its blocks have by now."""
        self.bad_blocks += 1
        self.last_failure = "the drafter's confidences or logits are NaN"
        LOG.warning("request %d, %d blocks in a row: %s", request, in_a_row, self.last_failure)
        if self.bad_blocks == 1:
            _warn(f"{self.last_failure}; such blocks are not verified. Check the bundle: dspark-export check")


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=3)
