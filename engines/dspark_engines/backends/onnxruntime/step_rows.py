"""Lengths and positions of a step's rows, as the kernels ask for them: each made once, by the first layer that asks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import onnx_ir as ir

INT32, INT64 = ir.DataType.INT32, ir.DataType.INT64


class StepRows:
    """Rows of `lengths` [R] tokens behind `used` [R] cached ones.

    Kernels may compute one token with other instructions than several; `pad_single_rows` makes two of one.
    """

    def __init__(self, op: Any, lengths: ir.Value, used: ir.Value, slots: int, *, pad_single_rows: bool) -> None:
        self.op, self.slots, self.pad_single_rows = op, slots, pad_single_rows
        self.lengths, self.used = lengths, used

    @cached_property
    def used_rows(self) -> Sequence[ir.Value]:
        """used of every row, [1] int64 each."""
        return self.per_row(self.used)

    @cached_property
    def ends(self) -> ir.Value:
        """Cache length after this step, [R] int64."""
        ends: ir.Value = self.op.Add(self.used, self.lengths)
        return ends

    @cached_property
    def end_rows(self) -> Sequence[ir.Value]:
        """Cache length after this step of every row, [1] int64 each."""
        return self.per_row(self.ends)

    @cached_property
    def length_rows(self) -> Sequence[ir.Value]:
        """Length of every row, [1] int64 each."""
        return self.per_row(self.lengths)

    @cached_property
    def padding(self) -> ir.Value:
        """1 for rows of one token, else 0, [R] int64."""
        padding: ir.Value = self.op.Cast(self.op.Equal(self.lengths, 1), to=INT64)
        return padding

    @cached_property
    def row_pads(self) -> Sequence[ir.Value]:
        """`Pad`'s pads for every row's tokens [n, W], [4] int64 each."""
        return [self.op.Concat([0, 0], row, [0], axis=0) for row in self.per_row(self.padding)]

    @cached_property
    def attended(self) -> ir.Value:
        """Cache length after this step as attention sees it, padding included, [R] int64."""
        return self.op.Add(self.ends, self.padding) if self.pad_single_rows else self.ends

    @cached_property
    def last_rows(self) -> Sequence[ir.Value]:
        """Index of the last position that is attended to, of every row, [1] int32 each."""
        return self.per_row(self.op.Cast(self.op.Sub(self.attended, 1), to=INT32))

    @cached_property
    def total_rows(self) -> Sequence[ir.Value]:
        """`attended` of every row, int32 scalars."""
        return [self.op.Squeeze(row, [0]) for row in self.per_row(self.op.Cast(self.attended, to=INT32))]

    def split(self, x: ir.Value) -> Sequence[ir.Value]:
        """Packed tokens [n, ...] to one value per row."""
        if self.slots == 1:
            return [x]
        parts: Sequence[ir.Value] = self.op.Split(x, self.lengths, axis=0, _outputs=self.slots)
        return parts

    def per_row(self, x: ir.Value) -> Sequence[ir.Value]:
        """[R] to R values [1]."""
        if self.slots == 1:
            return [x]
        rows: Sequence[ir.Value] = self.op.Split(x, axis=0, num_outputs=self.slots, _outputs=self.slots)
        return rows
