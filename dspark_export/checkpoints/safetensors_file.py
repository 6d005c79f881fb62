"""Tensors of a safetensors file, found by a header that is parsed once, and floats read in parts.

The library maps the file and copies a bfloat16 tensor before it can be turned into float32: three and a half times the
memory of what is asked for, in twice the time. It also parses the header each time it opens a file, which for thousands
of small tensors takes longer than reading them. Headers are checked by the library when a checkpoint is opened.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
import numpy.typing as npt

from dspark_export.checkpoints.recognition import SAFETENSORS_HEADER
from dspark_export.checkpoints.tensors import Array, Shape

NUMBERS_AT_A_TIME = 1 << 24
TYPES: dict[str, Any] = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2, "F8_E8M0": ml_dtypes.float8_e8m0fnu,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
    "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
"""NumPy's types by the header's names."""


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies: `dtype` as the header calls it, `start` in bytes from the beginning of the file."""

    path: Path
    dtype: str
    shape: Shape
    start: int


def read_header(path: Path) -> dict[str, StoredTensor]:
    """All tensors of a file whose header the library has found right."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(SAFETENSORS_HEADER), "little")
        entries: dict[str, Any] = json.loads(file.read(size))
    entries.pop("__metadata__", None)
    data = SAFETENSORS_HEADER + size
    return {
        name: StoredTensor(path, entry["dtype"], tuple(entry["shape"]), data + entry["data_offsets"][0])
        for name, entry in entries.items()
    }


def read_floats(tensor: StoredTensor) -> Array:
    """A tensor stored as F32, F16 or BF16, in float32."""
    result = np.empty(tensor.shape, np.float32)
    flat = result.reshape(-1)
    with tensor.path.open("rb") as file:
        file.seek(tensor.start)
        for start in range(0, flat.size, NUMBERS_AT_A_TIME):
            _read_part(file, tensor.dtype, flat[start : start + NUMBERS_AT_A_TIME])
    return result


def read_raw(tensor: StoredTensor) -> npt.NDArray[Any]:
    """A tensor in the type that it is stored in, one of `TYPES`."""
    kind, count = TYPES[tensor.dtype], prod(tensor.shape)
    return np.fromfile(tensor.path, kind, count, offset=tensor.start).reshape(tensor.shape)


def _read_part(file: BinaryIO, dtype: str, part: Array) -> None:
    """Fill `part` [n] with the next n numbers."""
    if dtype != "BF16":
        part[...] = np.fromfile(file, TYPES[dtype], part.size)
        return
    bits = part.view(np.uint32)  # a bfloat16 is the upper half of a float32
    bits[...] = np.fromfile(file, np.uint16, part.size)
    np.left_shift(bits, 16, out=bits)
