"""The part of the CUDA runtime that execution needs, with errors as exceptions. Not run on hardware yet.

Functions of `cuda.bindings.runtime` return an error code and their results.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from cuda.bindings import runtime

from dspark_engines.errors import BackendError

Bytes = npt.NDArray[np.uint8]


def call(function: Any, *arguments: Any) -> Any:
    """Call a function of the runtime. Raises `BackendError` with CUDA's own words."""
    error, *results = function(*arguments)
    if error != runtime.cudaError_t.cudaSuccess:
        _, text = runtime.cudaGetErrorString(error)
        words = text.decode() if isinstance(text, bytes) else str(text)
        raise BackendError(
            f"{function.__name__}: {words} ({error.name})",
            hint="check the GPU with nvidia-smi; fewer --slots or a shorter --context-length need less of its memory",
        )
    return results[0] if len(results) == 1 else tuple(results)


class Stream:
    """A stream of its own, which does not wait for the default one."""

    def __init__(self) -> None:
        self.handle: Any = call(runtime.cudaStreamCreateWithFlags, runtime.cudaStreamNonBlocking)

    def __int__(self) -> int:
        return int(self.handle)

    def synchronize(self) -> None:
        """Wait for everything on the stream; other threads run meanwhile."""
        call(runtime.cudaStreamSynchronize, self.handle)

    def to_device(self, target: int, source: Bytes) -> None:
        """Copy pinned memory to the device."""
        kind = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        call(runtime.cudaMemcpyAsync, target, source.ctypes.data, source.nbytes, kind, self.handle)

    def to_host(self, target: Bytes, source: int) -> None:
        """Copy device memory to pinned memory."""
        kind = runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        call(runtime.cudaMemcpyAsync, target.ctypes.data, source, target.nbytes, kind, self.handle)

    def move(self, target: int, source: int, size: int) -> None:
        """Copy device memory to device memory."""
        call(
            runtime.cudaMemcpyAsync,
            target,
            source,
            size,
            runtime.cudaMemcpyKind.cudaMemcpyDeviceToDevice,
            self.handle,
        )

    def clear(self, target: int, size: int) -> None:
        """Set device memory to zero."""
        call(runtime.cudaMemsetAsync, target, 0, size, self.handle)

    @contextmanager
    def capture(self) -> Iterator[list[Any]]:
        """Record what the block puts on the stream; the list then holds the executable graph.

        Thread-local, so that the other cohort's engine may go on meanwhile.
        """
        made: list[Any] = []
        call(
            runtime.cudaStreamBeginCapture, self.handle, runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        )
        try:
            yield made
        except BaseException:
            runtime.cudaStreamEndCapture(self.handle)  # the capture is invalid; the first error is the one to tell
            raise
        graph = call(runtime.cudaStreamEndCapture, self.handle)
        made.append(call(runtime.cudaGraphInstantiate, graph, 0))
        call(runtime.cudaGraphDestroy, graph)

    def launch(self, graph: Any) -> None:
        """Run a recorded graph."""
        call(runtime.cudaGraphLaunch, graph, self.handle)

    def close(self) -> None:
        """Give the stream back."""
        call(runtime.cudaStreamDestroy, self.handle)


class DeviceMemory:
    """A buffer on the device; `address` is where. The owner frees it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.address = int(call(runtime.cudaMalloc, max(1, size)))

    def free(self) -> None:
        """Give it back."""
        call(runtime.cudaFree, self.address)


class PinnedMemory:
    """Page-locked host memory as bytes, which the device reads and writes by itself. The owner frees it."""

    def __init__(self, size: int) -> None:
        self._address = int(call(runtime.cudaHostAlloc, max(1, size), runtime.cudaHostAllocDefault))
        self.bytes = _view(self._address, size)

    def free(self) -> None:
        """Give it back; `bytes` must not be touched afterwards."""
        call(runtime.cudaFreeHost, self._address)


def destroy_graph(graph: Any) -> None:
    """Give a recorded graph back."""
    call(runtime.cudaGraphExecDestroy, graph)


def _view(address: int, size: int) -> Bytes:
    from ctypes import c_uint8

    return np.ctypeslib.as_array((c_uint8 * size).from_address(address))
