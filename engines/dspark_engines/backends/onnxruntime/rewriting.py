"""A graph being lowered for slots: values that every layer shares, caches per slot."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import onnx_ir as ir

from dspark_plugins.graph_rewriting import Rewriter

MICROSOFT = "com.microsoft"
INT32, INT64 = ir.DataType.INT32, ir.DataType.INT64


class Lowering(Rewriter):
    """One graph being lowered for a fixed number of slots.

    Values that every layer needs are made once, by the first layer that asks. Stacked caches
    [R, Hkv, C, D] become one input and output per slot, `NAME.SLOT` [1, Hkv, C, D], so that a request's
    cache never moves whatever it is batched with.
    """

    def __init__(self, graph: ir.Graph, lengths: str, slots: int, *, pad_single_rows: bool = False) -> None:
        super().__init__(graph, "lowered")
        graph.opset_imports[MICROSOFT] = 1
        self.slots, self.pad_single_rows = slots, pad_single_rows
        inputs = {value.name: value for value in graph.inputs}
        self.lengths, self.used = inputs[lengths], inputs["used"]

    @cached_property
    def used_rows(self) -> Sequence[ir.Value]:
        """used of every row, [1] int64 each."""
        return self.per_row(self.used)

    @cached_property
    def ends(self) -> ir.Value:
        """Cache length after this step, [R] int64."""
        return self.op.Add(self.used, self.lengths)

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
        return self.op.Cast(self.op.Equal(self.lengths, 1), to=INT64)

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

    def split_rows(self, x: ir.Value, sizes: ir.Value | None = None) -> Sequence[ir.Value]:
        """Packed [n, ...] to one value per row, cut by `sizes` (the row lengths by default)."""
        if self.slots == 1:
            return [x]
        return self.op.Split(x, sizes or self.lengths, axis=0, _outputs=self.slots)

    def join_rows(self, rows: Sequence[ir.Value]) -> ir.Value:
        """One value per row back to packed [n, ...]."""
        return rows[0] if len(rows) == 1 else self.op.Concat(*rows, axis=0)

    def slot_caches(self, stacked: ir.Value) -> list[ir.Value]:
        """Replace a stacked cache input by one input per slot."""
        at = self.graph.inputs.index(stacked)
        self.graph.inputs.remove(stacked)
        caches = []
        for slot in range(self.slots):
            value = ir.Value(name=f"{stacked.name}.{slot}", shape=_one_slot(stacked), type=stacked.type)
            self.graph.inputs.insert(at + slot, value)
            caches.append(value)
        return caches

    def slot_outputs(self, stacked: ir.Value, updated: Sequence[ir.Value]) -> None:
        """Replace a stacked cache output by the updated cache of every slot."""
        at = self.graph.outputs.index(stacked)
        self.graph.outputs.remove(stacked)
        for slot, value in enumerate(updated):
            value.name, value.shape, value.type = f"{stacked.name}.{slot}", _one_slot(stacked), stacked.type
            self.graph.outputs.insert(at + slot, value)

    def per_row(self, x: ir.Value) -> Sequence[ir.Value]:
        """[R] to R values [1]."""
        if self.slots == 1:
            return [x]
        return self.op.Split(x, axis=0, num_outputs=self.slots, _outputs=self.slots)


def _one_slot(stacked: ir.Value) -> ir.Shape:
    assert stacked.shape is not None, "the exported graph declares every cache's shape"
    return ir.Shape([1, *stacked.shape[1:]])
