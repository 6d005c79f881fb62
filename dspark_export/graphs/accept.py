"""The graph that accepts drafts: `dspark::Accept` alone, for backends that do so where the logits are."""

from __future__ import annotations

import onnx_ir as ir

from dspark_export.graphs.writer import GraphWriter
from dspark_plugins.accept import INPUTS, OUTPUTS, AcceptSpec
from dspark_plugins.accept.function import accept_function

IDS = ("draft_ids", "verify_lengths")


def build_accept_graph(vocab_size: int, block_size: int) -> ir.Model:
    """A graph without weights; its inputs and outputs are the op's (dspark_plugins/accept/contract.py)."""
    w, spec = GraphWriter("accept"), AcceptSpec(block_size)
    shapes: tuple[list[int | str], ...] = (
        ["K", vocab_size],
        ["R", block_size],
        ["R", block_size, vocab_size],
        ["R"],
        ["R"],
        ["R", block_size + 1, 2],
    )
    inputs = [
        w.input(name, shape, ir.DataType.INT64 if name in IDS else ir.DataType.FLOAT)
        for name, shape in zip(INPUTS, shapes, strict=True)
    ]
    results = w.op.call(
        accept_function(spec), *inputs, _outputs=[f"node.{name}" for name in OUTPUTS], **spec.attributes()
    )
    for value, name in zip(results, OUTPUTS, strict=True):
        w.output(value, name, ["R"], ir.DataType.INT64)
    return w.model()
