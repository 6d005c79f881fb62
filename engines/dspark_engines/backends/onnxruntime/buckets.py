"""Programs by number of rows: a step runs on the smallest that holds it, loaded when first needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy.typing as npt

from dspark_engines.backends.engine import Slot
from dspark_engines.backends.onnxruntime.program import Feeds, OrtProgram, OrtSlot
from dspark_engines.errors import BackendError


class Buckets:
    """All programs of one role. Rows that fill up a bucket run on a scratch slot that nobody reads."""

    def __init__(self, loaders: Mapping[int, Callable[[], OrtProgram]]) -> None:
        self._loaders = dict(sorted(loaders.items()))
        self._programs: dict[int, OrtProgram] = {}
        self._scratch: list[OrtSlot] = []

    @property
    def max_rows(self) -> int:
        """Rows of the largest program."""
        return max(self._loaders)

    def new_slot(self) -> OrtSlot:
        """Fresh caches."""
        return OrtSlot(self._program(min(self._loaders)).cache_shapes)

    def preload(self, rows: int) -> None:
        """Load every program that steps of up to `rows` rows can need."""
        for size in self._loaders:
            self._program(size)
            if size >= rows:
                return

    def size_for(self, rows: int) -> int:
        """Rows of the program that a step of `rows` runs on. Raises `BackendError` when none is large enough."""
        size = next((size for size in self._loaders if size >= rows), None)
        if size is None:
            raise BackendError(
                f"{rows} rows in one step, the engines were built for {self.max_rows}",
                hint="build the bundle with more --slots",
            )
        return size

    def run(self, slots: Sequence[Slot], feeds: Feeds) -> tuple[list[npt.NDArray[Any]], float]:
        """Run one step whose feeds are already filled up to a bucket's size: outputs, and seconds inside."""
        size = self.size_for(len(slots))
        program = self._program(size)
        while len(self._scratch) < size - len(slots):
            self._scratch.append(self.new_slot())
        filled = [*slots, *self._scratch[: size - len(slots)]]
        return program.run(filled, feeds)

    def _program(self, size: int) -> OrtProgram:
        if size not in self._programs:
            self._programs[size] = self._loaders[size]()
        return self._programs[size]
