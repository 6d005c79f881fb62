"""NumPy oracle of `dspark::QuantizeRows` and `dspark::Int8Linear`, and how weights are quantised."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dspark_plugins.arrays import Floats
from dspark_plugins.int8_linear.contract import LEVELS, REMAINDER, SMALLEST_SCALE, ZERO_POINT


def quantize_rows(x: Floats, terms: int = 1) -> tuple[npt.NDArray[np.uint8], Floats]:
    """(quantized [terms*n, K], scale [terms*n, 1]) of x [n, K]."""
    largest = np.abs(x).max(axis=-1, keepdims=True)
    scale = np.maximum(largest * np.float32(1 / LEVELS), np.float32(SMALLEST_SCALE))
    rounded = np.rint(x / scale)
    parts, scales = [rounded], [scale]
    if terms == 2:
        scales.append(scale * np.float32(1 / REMAINDER))
        parts.append(np.rint((x - rounded * scale) / scales[1]))
    return (np.concatenate(parts) + ZERO_POINT).astype(np.uint8), np.concatenate(scales)


def column_scales(weight: Floats) -> Floats:
    """weight_scale [N] of a weight [K, N]; a channel of zeros gets the smallest scale."""
    return np.asarray(np.maximum(np.abs(weight).max(axis=0) * np.float32(1 / LEVELS), np.float32(SMALLEST_SCALE)))


def quantize_columns(weight: Floats) -> npt.NDArray[np.int8]:
    """A weight [K, N] as int8 under its `column_scales`."""
    return np.asarray(np.rint(weight / column_scales(weight)), np.int8)


def int8_linear(
    quantized: npt.NDArray[np.uint8],
    scale: Floats,
    weight: npt.NDArray[np.int8],
    weight_scale: Floats,
    terms: int = 1,
) -> Floats:
    """y [n, N]; see the contract."""
    total = (quantized.astype(np.int64) - ZERO_POINT) @ weight.astype(np.int64)
    products = np.split(total.astype(np.float32) * weight_scale * scale, terms)
    return np.asarray(sum(products[1:], products[0]))
