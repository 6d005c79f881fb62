"""What the engines ask of whatever runs their launches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy.typing as npt

from dspark_engines.backends.padded.shapes import StepShape

Feeds = Mapping[str, npt.NDArray[Any]]
Outputs = Mapping[str, npt.NDArray[Any]]
NOTHING: frozenset[str] = frozenset()


class StepRunner(Protocol):
    """Whatever executes a lowered graph with its caches, which it owns.

    Feeds may hold what the graph has no input for: a greedy drafter reads no temperature.
    """

    def run(self, shape: StepShape, first: int, feeds: Feeds, stay: frozenset[str] = NOTHING) -> tuple[Outputs, float]:
        """One launch on the cache rows from `first` on: outputs by name, valid until the next, and its seconds.

        Tensors called in `stay` are not copied: inputs keep what they held, outputs are left on the device.
        """

    def clear(self, place: int) -> None:
        """Zero a cache row before a request begins in it: whoever had it may have left NaN, and 0 times NaN is NaN."""

    def preload(self, shape: StepShape) -> None:
        """Make ready for launches of this shape."""
