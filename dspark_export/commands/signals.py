"""Ctrl-C, SIGTERM and a terminal that is closed all end a run in the same way: it cleans up, with exit code 2."""

from __future__ import annotations

import signal
import time

from dspark_engines.bundle.interruptions import HELD

PATIENCE = 10.0
"""Seconds in which a run cleans up undisturbed: `timeout` signals twice, people press Ctrl-C again. If the interpreter
ended before the engines' threads, the process would be aborted."""


class Interruptions:
    """Raises `KeyboardInterrupt` in the main thread; again only when `PATIENCE` is over."""

    def __init__(self) -> None:
        self.came = False
        self._raised = -PATIENCE

    def __call__(self, number: int, frame: object) -> None:
        now = time.monotonic()
        if now - self._raised >= PATIENCE:
            self.came = True
            self._raised = now
            raise KeyboardInterrupt


def heed_interruptions() -> Interruptions:
    """Take over the signals that end a run; one that the parent has switched off, as `nohup` does, stays so."""
    handler = Interruptions()
    for number in HELD:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)
    return handler


def ignore_interruptions() -> None:
    """For the rest of a process that has cleaned up: its exit code is settled."""
    for number in HELD:
        signal.signal(number, signal.SIG_IGN)
