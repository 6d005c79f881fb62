"""How long work reports itself without knowing who is looking."""

from __future__ import annotations

from typing import Protocol


class Step(Protocol):
    """One named step of known size."""

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total` units are finished."""


class Reporter(Protocol):
    """Somebody who shows steps."""

    def step(self, title: str) -> Step:
        """Begin a step; earlier ones are finished."""


class Silent:
    """Shows nothing."""

    def step(self, title: str) -> Step:
        def ignore(done: int, total: int) -> None:
            del done, total

        return ignore
