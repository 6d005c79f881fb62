"""Where draft logits stay on the device. Not run on hardware yet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dspark_engines.arrays import Floats
from dspark_engines.backends.tensorrt.execution.cuda import DeviceMemory, PinnedMemory, Stream


class LogitStore:
    """The last draft logits of every cache row, [rows, g, V] float32; implements `LogitKeeper`.

    `source` is where the draft engine puts out its own, row by row, for the next step to overwrite; `table` is where
    the accept engine reads. Cohorts may keep their rows at the same time; only one lays out at a time.
    """

    def __init__(self, source: int, rows: int, block: tuple[int, ...]) -> None:
        self._source, self._block = source, block
        self._size = int(np.prod(block)) * np.dtype(np.float32).itemsize
        self._stream = Stream()
        self._kept, self._table = DeviceMemory(rows * self._size), DeviceMemory(rows * self._size)

    @property
    def table(self) -> int:
        """Address of [rows, g, V]."""
        return self._table.address

    def keep(self, places: Sequence[int]) -> None:
        """See `LogitKeeper`."""
        for place in places:
            self._stream.move(self._at(place), self._source + place * self._size, self._size)
        self._stream.synchronize()

    def lay_out(self, places: Sequence[int]) -> None:
        """See `LogitKeeper`."""
        for index, place in enumerate(places):
            self._stream.move(self.table + index * self._size, self._at(place), self._size)
        self._stream.synchronize()

    def upload(self, lines: Floats) -> None:
        """See `LogitKeeper`."""
        host = PinnedMemory(lines.nbytes)
        host.bytes.view(np.float32)[:] = lines.reshape(-1)
        self._stream.to_device(self.table, host.bytes)
        self._stream.synchronize()
        host.free()

    def fetch(self, places: Sequence[int]) -> Floats:
        """See `LogitKeeper`."""
        host = PinnedMemory(len(places) * self._size)
        for index, place in enumerate(places):
            self._stream.to_host(host.bytes[index * self._size : (index + 1) * self._size], self._at(place))
        self._stream.synchronize()
        result = host.bytes.view(np.float32).reshape(len(places), *self._block).copy()
        host.free()
        return result

    def close(self) -> None:
        """Give memory and stream back."""
        self._kept.free()
        self._table.free()
        self._stream.close()

    def _at(self, place: int) -> int:
        return self._kept.address + place * self._size
