"""One compiled engine file: a session whose caches are bound in place, slot by slot."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, takewhile
from typing import Any

import numpy as np
import numpy.typing as npt

from dspark_engines.backends.onnxruntime.loader import onnxruntime
from dspark_engines.bundle import CacheSpec

Feeds = Mapping[str, npt.NDArray[Any]]
"""Inputs of one step, by name; caches are bound, not fed."""


class OrtSlot:
    """One request's caches: a buffer for every layer's keys and values, [1, Hkv, C, D] float32 each.

    Not cleared: no kernel reads past the used part, and untouched pages cost no memory.
    """

    def __init__(self, shapes: Mapping[CacheSpec, tuple[int, ...]]) -> None:
        self.buffers = {
            cache: onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32)
            for cache, shape in shapes.items()
        }


class OrtProgram:
    """A session for a fixed number of rows, whose `caches` have `capacity` cells.

    Outputs called `names` are allocated anew by every run.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        names: Sequence[str],
        caches: Sequence[CacheSpec],
        capacity: int,
    ) -> None:
        self._session, self._names = session, tuple(names)
        self.cache_shapes = _slot_shapes(session, caches, capacity)
        self._updated = _Updated(session)
        self._bound: list[OrtSlot] = []
        self._inputs: dict[str, npt.NDArray[Any]] = {}
        self._binding = session.io_binding()
        for name in self._names:  # first, so that they lead the outputs
            self._binding.bind_output(name)

    def run(self, slots: Sequence[OrtSlot], feeds: Feeds) -> tuple[list[npt.NDArray[Any]], float]:
        """Run one step, row r on slots[r]: the outputs called `names`, in that order, and seconds inside."""
        self._bind(slots)
        for name, array in feeds.items():
            self._feed(name, array)
        for name in self._names:
            self._binding.bind_output(name)
        started = time.perf_counter()
        self._session.run_with_iobinding(self._binding)
        seconds = time.perf_counter() - started
        outputs = self._binding.get_outputs_as_ortvaluevector()  # hundreds of caches among them: not one by one
        return [outputs[index].numpy() for index in range(len(self._names))], seconds

    def _feed(self, name: str, array: npt.NDArray[Any]) -> None:
        """A copy is bound, so that the next step of this shape need only overwrite it."""
        bound = self._inputs.get(name)
        if bound is None or (bound.shape, bound.dtype) != (array.shape, array.dtype):
            bound = np.empty_like(array, order="C")
            self._binding.bind_cpu_input(name, bound)
            self._inputs[name] = bound
        bound[...] = array

    def _bind(self, slots: Sequence[OrtSlot]) -> None:
        """Caches go in and out of one buffer each, which makes their update an in-place one. Most rows stay bound."""
        bound, self._bound = self._bound, []  # should this fail half-way, nothing counts as bound
        for row, slot in enumerate(slots):
            if row < len(bound) and bound[row] is slot:
                continue
            for cache, buffer in slot.buffers.items():
                names = cache.of_slot(row)
                self._binding.bind_ortvalue_input(names.input, buffer)
                for output in self._updated.of(cache, row):
                    self._binding.bind_ortvalue_output(output, buffer)
        self._bound = list(slots)


class _Updated:
    """The outputs of a session that hold caches."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._names = {value.name for value in session.get_outputs()}

    def of(self, cache: CacheSpec, row: int) -> Iterator[str]:
        """Those of a row's cache, which all are one buffer: what nodes hand on to others, and what is left at last."""
        handed = (cache.passed_on(row, number) for number in count())
        yield from takewhile(self._names.__contains__, handed)
        yield cache.of_slot(row).output


def _slot_shapes(
    session: onnxruntime.InferenceSession, caches: Sequence[CacheSpec], capacity: int
) -> dict[CacheSpec, tuple[int, ...]]:
    """Shape of every cache of one slot; the axis of its cells is the one without a fixed extent."""
    declared = {value.name: value.shape for value in session.get_inputs()}
    shapes = {cache: declared[cache.of_slot(0).input] for cache in caches}
    return {cache: tuple(n if isinstance(n, int) else capacity for n in shape) for cache, shape in shapes.items()}
