"""Buffers of one engine: bound once, never moved, so that captured graphs stay valid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dspark_engines.backends.tensorrt.execution.cuda import Bytes, DeviceMemory, PinnedMemory, Stream


@dataclass(frozen=True)
class Tensor:
    """One input or output that is no cache: pinned on the host, and on the device, of the largest step's size."""

    dtype: np.dtype[Any]
    host: PinnedMemory
    device: DeviceMemory

    def bytes(self, shape: tuple[int, ...]) -> Bytes:
        """The part of the host's memory that a step of this shape uses."""
        return self.host.bytes[: int(np.prod(shape)) * self.dtype.itemsize]

    def array(self, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """The same as an array."""
        return self.bytes(shape).view(self.dtype).reshape(shape)


class Buffers:
    """Owns all memory of an engine. `sizes` are bytes of every tensor and every cache at the largest step."""

    def __init__(
        self, stream: Stream, tensors: dict[str, tuple[np.dtype[Any], int]], caches: dict[str, int], scratch: int
    ) -> None:
        self._owned: list[DeviceMemory | PinnedMemory] = []
        try:
            self.tensors = {name: self._tensor(*what) for name, what in tensors.items()}
            self.caches = {name: self._own(DeviceMemory(size)) for name, size in caches.items()}
            self.scratch = self._own(DeviceMemory(scratch))
        except BaseException:
            self.free()
            raise
        for memory in self.caches.values():  # masked cells have weight 0, but 0 times NaN would be NaN
            stream.clear(memory.address, memory.size)
        stream.synchronize()

    def free(self) -> None:
        """Give everything back."""
        while self._owned:
            self._owned.pop().free()

    def _tensor(self, dtype: np.dtype[Any], size: int) -> Tensor:
        host = PinnedMemory(size)
        self._owned.append(host)
        return Tensor(dtype, host, self._own(DeviceMemory(size)))

    def _own(self, memory: DeviceMemory) -> DeviceMemory:
        self._owned.append(memory)
        return memory
