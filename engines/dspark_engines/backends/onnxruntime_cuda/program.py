"""One engine on the device: a session whose caches lie there and are updated in place."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dspark_engines.backends.onnxruntime.loader import onnxruntime
from dspark_engines.backends.onnxruntime_cuda.checking import INSTALL
from dspark_engines.backends.onnxruntime_cuda.memory import DEVICE, Cache
from dspark_engines.backends.padded.runner import NOTHING, Feeds, Outputs
from dspark_engines.backends.padded.shapes import RoleShapes, StepShape, input_shape
from dspark_engines.bundle import CacheSpec, Role
from dspark_engines.errors import BackendError

TYPES = {"tensor(int64)": np.int64, "tensor(float)": np.float32}
Place = tuple[int, int]
"""Rows of a step, and the cache row that the first of them has."""


class CudaProgram:
    """Runs one session; implements `StepRunner`. Closing it frees the device's memory."""

    def __init__(
        self, session: onnxruntime.InferenceSession, shapes: RoleShapes, role: Role, caches: Sequence[CacheSpec]
    ) -> None:
        self._session, self._shapes, self._role = session, shapes, role
        values, updated = {value.name: value for value in session.get_inputs()}, {cache.output for cache in caches}
        rows = max(shape.rows for shape in shapes.narrow)
        self._caches = {cache: _allocate(values.pop(cache.input), rows) for cache in caches}
        self._inputs = values
        self._outputs = [value.name for value in session.get_outputs() if value.name not in updated]
        self._bindings: dict[Place, onnxruntime.IOBinding] = {}
        self._ready: set[StepShape] = set()

    def preload(self, shape: StepShape) -> None:
        """Run a step that serves nobody: kernels are loaded and memory is taken now rather than at the first one."""
        if shape not in self._ready:
            self.run(shape, 0, self._idle_feeds(shape))

    def clear(self, place: int) -> None:
        """Nothing: ONNX Runtime has no way to write into a part of its memory. See docs/serving.md on what follows."""

    def run(self, shape: StepShape, first: int, feeds: Feeds, stay: frozenset[str] = NOTHING) -> tuple[Outputs, float]:
        """One launch. Outputs are new arrays; those called in `stay` are left on the device."""
        started, seen = time.perf_counter(), self._seen(feeds)
        fed = {name: np.ascontiguousarray(seen[name]) for name in self._inputs}  # what is not copied must not go yet
        try:
            binding = self._binding((shape.rows, first))
            for name, array in fed.items():
                binding.bind_cpu_input(name, array)
            for name in self._outputs:
                binding.bind_output(name, *(DEVICE if name in stay else ()))
            binding.synchronize_inputs()
            self._session.run_with_iobinding(binding)
            values = binding.get_outputs_as_ortvaluevector()
            moved = {name: index for index, name in enumerate(self._outputs) if name not in stay}
            outputs = {name: values[index].numpy() for name, index in moved.items()}
        except Exception as error:  # ONNX Runtime raises a dozen unrelated classes, RuntimeError among them
            raise BackendError(
                f"ONNX Runtime could not run a step on the GPU: {str(error).splitlines()[0]:.300}",
                hint=f"check with nvidia-smi that memory is left, and that cuDNN is installed ({INSTALL})",
            ) from error
        self._ready.add(shape)
        return outputs, time.perf_counter() - started

    def close(self) -> None:
        """Give back bindings, caches and the session, in that order."""
        self._bindings.clear()
        self._caches.clear()
        self._session = None

    def _seen(self, feeds: Feeds) -> Feeds:
        """Parked rows see nothing in the first queries of a causal step: let them see what nobody reads instead."""
        if self._role == "draft":
            return feeds
        return {**feeds, "visible": np.maximum(feeds["visible"], feeds["pad_rows"].shape[1])}

    def _binding(self, place: Place) -> onnxruntime.IOBinding:
        """Caches go in and out of one piece of memory each, which makes their update an in-place one."""
        if place not in self._bindings:
            rows, first = place
            binding = self._session.io_binding()
            for name in self._outputs:  # first, so that they lead the outputs
                binding.bind_output(name)
            for (given, updated), cache in self._caches.items():
                where = (*DEVICE, cache.element_type, cache.shape(rows), cache.address(first))
                binding.bind_input(given, *where)
                binding.bind_output(updated, *where)
            self._bindings[place] = binding
        return self._bindings[place]

    def _idle_feeds(self, shape: StepShape) -> Mapping[str, np.ndarray[Any, Any]]:
        """Every row is parked: it writes behind every cell that is ever read."""
        lines = shape.tokens
        feeds = {
            name: np.zeros(input_shape(self._shapes, shape, name, value.shape, lines), TYPES[value.type])
            for name, value in self._inputs.items()
        }
        feeds["used"] += self._shapes.capacity - feeds["pad_rows"].shape[1]
        feeds["visible"] += 1
        return feeds


def _allocate(value: onnxruntime.NodeArg, rows: int) -> Cache:
    try:
        return Cache(value.type, rows, value.shape[1:])
    except Exception as error:
        raise BackendError(
            f"no room on the GPU for {value.name}: {str(error).splitlines()[0]:.200}",
            hint="build the bundle with fewer --slots or less --context",
        ) from error
