"""One engine on the device: a context a shape, captured graphs for narrow steps. Not run on hardware yet.

Everything a step reads is copied into pinned buffers that never move; the copies to the device, the kernels and the
copies back are one graph, recorded the first time a shape runs. Contexts share one scratch buffer, because launches
of an engine follow each other on its stream.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dspark_engines.backends.padded.runner import NOTHING, Feeds, Outputs
from dspark_engines.backends.padded.shapes import RoleShapes, StepShape, input_shape, lines
from dspark_engines.backends.tensorrt.execution.buffers import Buffers
from dspark_engines.backends.tensorrt.execution.cuda import Stream, destroy_graph
from dspark_engines.bundle import CacheSpec
from dspark_engines.errors import BackendError


class Key(NamedTuple):
    """A shape, the number of lines that have logits, and what is not copied."""

    shape: StepShape
    logit_rows: int
    stay: frozenset[str] = NOTHING


class TrtProgram:
    """Runs one deserialized engine; implements `StepRunner`. Closing it frees the device's memory.

    `outside` are addresses on the device of inputs that somebody else writes.
    """

    def __init__(
        self,
        trt: Any,
        engine: Any,
        shapes: RoleShapes,
        caches: Sequence[CacheSpec],
        outside: Mapping[str, int] | None = None,
    ) -> None:
        self._trt, self._engine, self._shapes, self._outside = trt, engine, shapes, dict(outside or {})
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = {name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT}
        self._caches = tuple(caches)
        bound = {name for cache in caches for name in cache}.union(self._outside)
        ours = [name for name in names if name not in bound]
        self._inputs, self._outputs = ([n for n in ours if (n in inputs) == wanted] for wanted in (True, False))
        self._check_in_place()
        self._stream = Stream()
        self._buffers = Buffers(self._stream, self._tensor_sizes(), self._cache_sizes(), self._scratch_size())
        self._contexts: dict[tuple[StepShape, int], Any] = {}
        self._graphs: dict[Key, Any] = {}

    def preload(self, shape: StepShape) -> None:
        """Make the context of a narrow shape; its kernels are compiled or loaded now rather than at the first step."""
        self._context(Key(shape, shape.tokens), 0)

    def clear(self, place: int) -> None:
        """Zero a cache row, before the next launch."""
        for name, memory in self._buffers.caches.items():
            size = self._row_bytes(name)
            self._stream.clear(memory.address + place * size, size)

    def address(self, name: str) -> int:
        """Where an input or output lies on the device, of the largest step's size."""
        return self._buffers.tensors[name].device.address

    def line(self, name: str) -> tuple[int, ...]:
        """Shape of an input or output without its first axis."""
        return tuple(self._engine.get_tensor_shape(name))[1:]

    def run(self, shape: StepShape, first: int, feeds: Feeds, stay: frozenset[str] = NOTHING) -> tuple[Outputs, float]:
        """One launch. Outputs are pinned memory, overwritten by the next."""
        key = Key(shape, len(feeds["logit_rows"]) if "logit_rows" in feeds else shape.tokens, stay)
        for name in _moved(self._inputs, key):
            np.copyto(self._buffers.tensors[name].array(feeds[name].shape), feeds[name])
        started = time.perf_counter()
        if key in self._graphs:
            self._stream.launch(self._graphs[key])
        else:
            self._first(key, first)
        self._stream.synchronize()
        seconds = time.perf_counter() - started
        context = self._contexts[key[:2]]
        shapes = {name: tuple(context.get_tensor_shape(name)) for name in _moved(self._outputs, key)}
        return {name: self._buffers.tensors[name].array(size) for name, size in shapes.items()}, seconds

    def close(self) -> None:
        """Give back graphs, contexts, memory and stream, in that order."""
        while self._graphs:
            destroy_graph(self._graphs.popitem()[1])
        self._contexts.clear()
        self._buffers.free()
        self._stream.close()

    def _first(self, key: Key, first: int) -> None:
        """Run without a graph, which loads what is loaded lazily; then record one for the next time.

        Wide steps stand at a different cache row every time, and are long enough to be launched one by one.
        """
        context = self._context(key, first)
        self._enqueue(key, context)
        if key.shape.wide or not self._capturable(context):
            return
        self._stream.synchronize()
        with self._stream.capture() as made:
            self._enqueue(key, context)
        self._graphs[key] = made[0]

    def _capturable(self, context: Any) -> bool:
        asks = getattr(context, "is_stream_capturable", None)  # TensorRT-RTX tells; TensorRT has no such question
        return asks is None or bool(asks(int(self._stream)))

    def _enqueue(self, key: Key, context: Any) -> None:
        for name in _moved(self._inputs, key):
            tensor = self._buffers.tensors[name]
            self._stream.to_device(tensor.device.address, tensor.bytes(self._input_shape(name, key)))
        if not context.execute_async_v3(int(self._stream)):
            raise BackendError("TensorRT could not run a step", hint="check the bundle: dspark-export check")
        for name in _moved(self._outputs, key):
            tensor = self._buffers.tensors[name]
            self._stream.to_host(tensor.bytes(tuple(context.get_tensor_shape(name))), tensor.device.address)

    def _context(self, key: Key, first: int) -> Any:
        """The context of a shape, whose caches begin at row `first`."""
        if key[:2] not in self._contexts:
            self._contexts[key[:2]] = self._make_context(key)
        context = self._contexts[key[:2]]
        for cache in self._caches:
            address = self._buffers.caches[cache.input].address + first * self._row_bytes(cache.input)
            for name in cache:
                context.set_tensor_address(name, address)
        return context

    def _make_context(self, key: Key) -> Any:
        trt, stream = self._trt, int(self._stream)
        context = self._engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if context is None:
            raise BackendError("TensorRT could not make an execution context", hint="check the GPU with nvidia-smi")
        profile = next(index for index, group in enumerate(self._shapes.profiles) if key.shape in group)
        context.set_optimization_profile_async(profile, stream)
        for name in [*self._inputs, *self._outside, *(cache.input for cache in self._caches)]:
            context.set_input_shape(name, self._input_shape(name, key))
        addresses = {name: tensor.device.address for name, tensor in self._buffers.tensors.items()}
        for name, address in (addresses | self._outside).items():
            context.set_tensor_address(name, address)
        context.set_device_memory(self._buffers.scratch.address, self._buffers.scratch.size)
        return context

    def _input_shape(self, name: str, key: Key) -> tuple[int, ...]:
        return input_shape(self._shapes, key[0], name, tuple(self._engine.get_tensor_shape(name)), key.logit_rows)

    def _check_in_place(self) -> None:
        """Caches must be updated where they are: a copy that the engine made would be lost."""
        for cache in self._caches:
            if self._engine.get_aliased_input_tensor(cache.output) != cache.input:
                raise BackendError(
                    f"this engine does not update {cache.input} in place",
                    hint="compile the bundle again with this version: dspark-export compile",
                )

    def _tensor_sizes(self) -> dict[str, tuple[np.dtype[Any], int]]:
        """Type and bytes of every tensor that is no cache, at its largest."""
        sizes = {}
        for name in self._inputs + self._outputs:
            dtype = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))
            largest = max(int(np.prod(self._largest(name, group[-1]))) for group in self._shapes.profiles)
            sizes[name] = (dtype, largest * dtype.itemsize)
        return sizes

    def _largest(self, name: str, shape: StepShape) -> tuple[int, ...]:
        if name in self._inputs:
            return self._input_shape(name, Key(shape, shape.tokens))
        _, *line = self._engine.get_tensor_shape(name)
        counts = {"logits": lines(shape), "features": shape.tokens}
        return (counts.get(name, shape.rows), *line)

    def _row_bytes(self, name: str) -> int:
        _, *cells = self._engine.get_tensor_shape(name)
        return int(np.prod(cells)) * int(self._engine.get_tensor_dtype(name).itemsize)

    def _cache_sizes(self) -> dict[str, int]:
        rows = max(shape.rows for shape in self._shapes.narrow)
        return {cache.input: rows * self._row_bytes(cache.input) for cache in self._caches}

    def _scratch_size(self) -> int:
        profiles = range(self._engine.num_optimization_profiles)
        return max(int(self._engine.get_device_memory_size_for_profile_v2(index)) for index in profiles)


def _moved(names: Sequence[str], key: Key) -> list[str]:
    """Those that are copied."""
    return [name for name in names if name not in key.stay]
