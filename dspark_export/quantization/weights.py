"""Weights as 8-bit integers, quantised when they are written to disk, and not kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from dspark_engines.arrays import Floats
from dspark_engines.errors import CheckpointError
from dspark_plugins.int8_linear.reference import column_scales, quantize_columns

Load = Callable[[], Floats]


class Int8Weight(NamedTuple):
    """A weight [K, N] int8 and its scales [N] float32, as initializers; external once they are written."""

    int8: ir.TensorProtocol
    scale: ir.TensorProtocol


def int8_weight(name: str, shape: tuple[int, int], load: Load) -> Int8Weight:
    """The weight `load` returns, [K, N], quantised by output channel. Nothing is loaded yet."""
    return Int8Weight(
        lazy_tensor(f"{name}.int8", ir.DataType.INT8, shape, lambda: quantize_columns(load())),
        lazy_tensor(f"{name}.scale", ir.DataType.FLOAT, shape[1:], lambda: column_scales(load())),
    )


def check_weight(name: str, weight: Floats) -> Floats:
    """`weight` as it is. Raises `CheckpointError` when integers cannot stand for it."""
    if not np.isfinite(weight).all():
        raise CheckpointError(f"{name} holds NaN or infinities", hint="the checkpoint is damaged: fetch it again")
    if not weight.any():
        raise CheckpointError(
            f"every channel of {name} is zero: it has no scale", hint="the checkpoint is damaged, or build with fp32"
        )
    return weight


def lazy_tensor(
    name: str, dtype: ir.DataType, shape: tuple[int, ...], load: Callable[[], npt.NDArray[Any]]
) -> ir.LazyTensor:
    """An initializer that is computed when it is serialised, and not kept."""
    return ir.LazyTensor(
        lambda: ir.tensor(np.ascontiguousarray(load()), name=name), dtype=dtype, shape=ir.Shape(shape), name=name
    )
