"""A graph being lowered for slots: values that every layer shares, caches per slot."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from dspark_engines.backends.onnxruntime.step_rows import StepRows
from dspark_engines.bundle.caches import CacheSpec
from dspark_plugins.graph_rewriting import Rewriter

MICROSOFT = "com.microsoft"


class Lowering(Rewriter):
    """One graph being lowered for a fixed number of slots.

    Stacked caches [R, Hkv, C, D] become one input and output per slot, `NAME.SLOT` [1, Hkv, C, D], so that a request's
    cache never moves whatever it is batched with. A cache that one node hands on to another of the same graph is put
    out in between too (see `CacheSpec.passed_on`): whoever binds all of these to one buffer lets no node copy it.
    """

    def __init__(self, graph: ir.Graph, slots: int, *, pad_single_rows: bool = False) -> None:
        super().__init__(graph, "lowered")
        graph.opset_imports[MICROSOFT] = 1
        self.slots, self.pad_single_rows = slots, pad_single_rows
        self._rows: dict[tuple[ir.Value, ir.Value], StepRows] = {}
        self._names: dict[ir.Value, str] = {}
        self._handed: dict[ir.Value, list[ir.Value]] = {}

    def step_rows(self, lengths: ir.Value, used: ir.Value) -> StepRows:
        """The rows of nodes that read these lengths behind these positions."""
        key = (lengths, used)
        if key not in self._rows:
            self._rows[key] = StepRows(self.op, *key, self.slots, pad_single_rows=self.pad_single_rows)
        return self._rows[key]

    def join_rows(self, rows: Sequence[ir.Value]) -> ir.Value:
        """One value per row back to packed [n, ...]."""
        return rows[0] if len(rows) == 1 else self.op.Concat(*rows, axis=0)

    def slot_caches(self, stacked: ir.Value) -> list[ir.Value]:
        """One cache per slot instead of a stacked one: an input of the graph, or what another node has left."""
        if stacked in self._handed:
            return self._handed[stacked]
        at = self.graph.inputs.index(stacked)
        self.graph.inputs.remove(stacked)
        caches = []
        for slot in range(self.slots):
            value = ir.Value(name=f"{stacked.name}.{slot}", shape=_one_slot(stacked), type=stacked.type)
            self.graph.inputs.insert(at + slot, value)
            caches.append(value)
        return caches

    def slot_outputs(self, given: ir.Value, stacked: ir.Value, updated: Sequence[ir.Value]) -> None:
        """What becomes of the stacked cache `given`: `stacked`, an output of the graph or read by another node, is
        replaced by the updated cache of every slot."""
        name = self._names.get(given, given.name or "")
        if stacked not in self.graph.outputs:
            self._hand_on(name, stacked, updated)
            return
        at = self.graph.outputs.index(stacked)
        self.graph.outputs.remove(stacked)
        for slot, value in enumerate(updated):
            value.name, value.shape, value.type = f"{stacked.name}.{slot}", _one_slot(stacked), stacked.type
            self.graph.outputs.insert(at + slot, value)

    def _hand_on(self, name: str, stacked: ir.Value, updated: Sequence[ir.Value]) -> None:
        """`name`: of the graph's input that this cache was."""
        number = sum(known == name for known in self._names.values())
        self._names[stacked], self._handed[stacked] = name, list(updated)
        for slot, value in enumerate(updated):
            value.name = CacheSpec(name, name).passed_on(slot, number)
            value.shape, value.type = _one_slot(stacked), stacked.type
            self.graph.outputs.append(value)


def _one_slot(stacked: ir.Value) -> ir.Shape:
    assert stacked.shape is not None, "the exported graph declares every cache's shape"
    return ir.Shape([1, *stacked.shape[1:]])
