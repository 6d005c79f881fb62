"""A tensor of a safetensors file read in parts, so that no copy in the stored type stands beside the result.

The library maps the file and copies a bfloat16 tensor before it can be turned into float32: three and a half times the
memory of what is asked for, in twice the time. Headers are checked by the library when a checkpoint is opened.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
import numpy.typing as npt

from dspark_export.checkpoints.recognition import SAFETENSORS_HEADER
from dspark_export.checkpoints.tensors import Array

FP8 = "F8_E4M3"
NUMBERS_AT_A_TIME = 1 << 24


def read_floats(path: Path, name: str) -> Array:
    """A tensor stored as F32, F16 or BF16, in float32."""
    with path.open("rb") as file:
        entry = _find(file, name)
        result = np.empty(entry["shape"], np.float32)
        flat = result.reshape(-1)
        for start in range(0, flat.size, NUMBERS_AT_A_TIME):
            _read_part(file, entry["dtype"], flat[start : start + NUMBERS_AT_A_TIME])
    return result


def read_fp8(path: Path, name: str) -> npt.NDArray[Any]:
    """A tensor stored as FP8, for which the library looks in NumPy, which has none."""
    with path.open("rb") as file:
        shape = _find(file, name)["shape"]
        return np.fromfile(file, ml_dtypes.float8_e4m3fn, int(np.prod(shape))).reshape(shape)


def _find(file: BinaryIO, name: str) -> dict[str, Any]:
    """The header's entry of a tensor; the file stands at its first byte then."""
    size = int.from_bytes(file.read(SAFETENSORS_HEADER), "little")
    entry: dict[str, Any] = json.loads(file.read(size))[name]
    file.seek(SAFETENSORS_HEADER + size + entry["data_offsets"][0])
    return entry


def _read_part(file: BinaryIO, dtype: str, part: Array) -> None:
    """Fill `part` [n] with the next n numbers."""
    if dtype == "F32":
        part[...] = np.fromfile(file, np.float32, part.size)
        return
    if dtype == "F16":
        part[...] = np.fromfile(file, np.float16, part.size)
        return
    bits = part.view(np.uint32)  # a bfloat16 is the upper half of a float32
    bits[...] = np.fromfile(file, np.uint16, part.size)
    np.left_shift(bits, 16, out=bits)
