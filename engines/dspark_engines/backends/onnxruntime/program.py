"""One compiled engine file: a session whose caches are bound in place, slot by slot."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

Feeds = Mapping[str, npt.NDArray[Any]]
"""Inputs of one step, by name; caches are bound, not fed."""


class OrtSlot:
    """One request's caches: a buffer for every layer's keys and values, [1, Hkv, C, D] float32 each.

    Not cleared: no kernel reads past the used part, and untouched pages cost no memory.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.buffers = {
            name: onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32) for name, shape in shapes.items()
        }


class OrtProgram:
    """A session for a fixed number of rows. Outputs called `names` are allocated anew by every run."""

    def __init__(self, session: onnxruntime.InferenceSession, names: Sequence[str], capacity: int) -> None:
        self._session, self._names = session, tuple(names)
        self.cache_shapes = _cache_shapes(session, capacity)
        self._bound: tuple[OrtSlot, ...] = ()
        self._binding: Any = None

    def run(self, slots: Sequence[OrtSlot], feeds: Feeds) -> tuple[list[npt.NDArray[Any]], float]:
        """Run one step, row r on slots[r]: the outputs called `names`, in that order, and seconds inside."""
        if self._binding is None or self._bound != tuple(slots):
            self._binding, self._bound = self._bind(slots), tuple(slots)
        for name, array in feeds.items():
            self._binding.bind_cpu_input(name, np.ascontiguousarray(array))
        for name in self._names:
            self._binding.bind_output(name)
        started = time.perf_counter()
        self._session.run_with_iobinding(self._binding)
        seconds = time.perf_counter() - started
        return [value.numpy() for value in self._binding.get_outputs()[: len(self._names)]], seconds

    def _bind(self, slots: Sequence[OrtSlot]) -> Any:
        """Caches go in and out of one buffer each, which makes their update an in-place one."""
        binding = self._session.io_binding()
        for name in self._names:  # first, so that they lead get_outputs()
            binding.bind_output(name)
        for row, slot in enumerate(slots):
            for name, buffer in slot.buffers.items():
                kind, layer = name.split(".")
                binding.bind_ortvalue_input(f"{kind}.{layer}.{row}", buffer)
                binding.bind_ortvalue_output(f"{kind}_out.{layer}.{row}", buffer)
        return binding


def _cache_shapes(session: onnxruntime.InferenceSession, capacity: int) -> dict[str, tuple[int, ...]]:
    """Shape of every cache of one slot, by `key_cache.LAYER` / `value_cache.LAYER`."""
    shapes: dict[str, tuple[int, ...]] = {}
    for value in session.get_inputs():
        kind, _, rest = value.name.partition(".")
        if kind.endswith("_cache") and rest.endswith(".0"):
            _, heads, _, width = value.shape
            shapes[f"{kind}.{rest.removesuffix('.0')}"] = (1, heads, capacity, width)
    return shapes
