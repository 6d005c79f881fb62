"""Rotations that spread outliers: blocks of channels through a Hadamard matrix, undone in the weight behind them.

The idea of QuaRot (Ashkboos et al. 2024): x @ W = (x @ H) @ (H^-1 @ W), and where x has one large entry, x @ H has
many small ones, which 8 bits hold far better. H has blocks of one size on its diagonal: one small product is enough.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnxscript import GraphBuilder

from dspark_engines.arrays import Floats

BLOCKS = (32, 16)
"""Sizes of the blocks, the largest that divides a width being taken. Larger ones spread more, but from 64 on the
product of a single token wakes a second thread, which costs more than the product."""

MATRIX = "rotation."
"""How the name of a matrix begins in a graph; its size follows."""


def block_size(width: int) -> int:
    """Size of the blocks of a rotation of `width` channels; 0 where none fits."""
    return next((size for size in BLOCKS if width % size == 0), 0)


def hadamard(size: int) -> Floats:
    """Sylvester's matrix [size, size] of ±1, symmetric; its inverse is itself / size, a power of two."""
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def rotated(x: Floats, size: int) -> Floats:
    """x [n, K] with every block of `size` channels through the matrix; as it is where `size` is 0."""
    return (x.reshape(len(x), -1, size) @ hadamard(size)).reshape(x.shape) if size else x


def rotated_back(weight: Floats, size: int) -> Floats:
    """A weight [K, N] that undoes `rotated` in front of it."""
    return rotated(weight.T, size).T / np.float32(size) if size else weight


class Rotations:
    """Writes rotations into a graph; what several of them need is there once."""

    def __init__(self, builder: GraphBuilder) -> None:
        self._builder = builder
        self._made: dict[str, ir.Value] = {}

    def rotate(self, x: ir.Value, size: int, width: int) -> ir.Value:
        """Nodes for `rotated`, x [n, width]. The product has a row a block, so its kernel is not that of one row."""
        op, matrix = self._builder.op, self._constant(f"{MATRIX}{size}", hadamard(size))
        blocks, whole = (self._constant(f"rows_of.{n}", np.array([-1, n], np.int64)) for n in (size, width))
        rows: ir.Value = op.Reshape(op.MatMul(op.Reshape(x, blocks), matrix), whole)
        rows.shape, rows.dtype = x.shape, ir.DataType.FLOAT
        return rows

    def _constant(self, name: str, array: npt.NDArray[Any]) -> ir.Value:
        if name not in self._made:
            self._made[name] = self._builder.initializer(ir.tensor(array, name=name), name, qualify=False)
        return self._made[name]
