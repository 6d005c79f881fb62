"""A session with its caches: binds slots to rows, feeds the rest, runs, counts the time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from dspark_engines.backends.base import Slot
from dspark_engines.errors import BackendError

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
    """One compiled engine. Outputs called `names` are allocated anew by every run."""

    def __init__(self, session: onnxruntime.InferenceSession, names: Sequence[str], slots: int, capacity: int) -> None:
        self._session, self._names, self._slots = session, tuple(names), slots
        self._shapes = _cache_shapes(session, capacity)
        self._bound: tuple[int, ...] = ()
        self._binding: Any = None
        self.busy_seconds = 0.0

    def new_slot(self) -> OrtSlot:
        """Fresh caches."""
        return OrtSlot(self._shapes)

    def run(self, slots: Sequence[Slot], feeds: Feeds) -> list[npt.NDArray[Any]]:
        """Run one step; returns the outputs called `names`, in that order."""
        binding = self._bind(slots)
        for name, array in feeds.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(array))
        for name in self._names:
            binding.bind_output(name)
        started = time.perf_counter()
        self._session.run_with_iobinding(binding)
        self.busy_seconds += time.perf_counter() - started
        return [value.numpy() for value in binding.get_outputs()[: len(self._names)]]

    def _bind(self, slots: Sequence[OrtSlot]) -> Any:
        """The binding for these slots; made anew only when they are not those of the last step."""
        if len(slots) != self._slots:
            raise BackendError(
                f"{len(slots)} rows in one step, the engine was built for {self._slots}",
                hint="build the bundle for that many slots",
            )
        wanted = tuple(id(slot) for slot in slots)
        if self._binding is None or wanted != self._bound:
            self._binding, self._bound = self._new_binding(slots), wanted
        return self._binding

    def _new_binding(self, slots: Sequence[OrtSlot]) -> Any:
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
