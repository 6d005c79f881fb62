"""Caches on the device: one piece of memory a layer's keys or values, [rows, Hkv, C, D], whose rows are requests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dspark_engines.backends.onnxruntime.loader import onnxruntime

DEVICE = ("cuda", 0)
"""The first of those that CUDA_VISIBLE_DEVICES leaves."""
STORED: dict[str, tuple[int, type[np.generic]]] = {
    "tensor(float)": (1, np.float32),
    "tensor(float16)": (10, np.float16),
    "tensor(bfloat16)": (16, np.uint16),  # NumPy has no such type; memory has none at all
}
"""ONNX's number of an element type, and a NumPy type of its size."""


class Cache:
    """Zeros in the beginning: cells that nobody wrote have weight 0, but 0 times NaN would be NaN."""

    def __init__(self, kind: str, rows: int, cells: Sequence[int]) -> None:
        self.element_type, dtype = STORED[kind]
        self._cells = tuple(cells)
        self._row_bytes = int(np.prod(self._cells)) * np.dtype(dtype).itemsize
        self._memory = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros((rows, *self._cells), dtype), *DEVICE)

    def shape(self, rows: int) -> tuple[int, ...]:
        """[rows, Hkv, C, D]."""
        return (rows, *self._cells)

    def address(self, row: int) -> int:
        """Where a row begins."""
        return int(self._memory.data_ptr()) + row * self._row_bytes
