"""`dspark::Verify`'s function body in ONNX Runtime."""

from __future__ import annotations

from functools import cache
from typing import Any

import onnx_ir as ir

from dspark_export.graphs.writer import GraphWriter
from dspark_plugins.verify import INPUTS, OUTPUTS, VerifySpec
from dspark_plugins.verify.function import verify_function
from dspark_plugins.verify.reference import VerifyResult
from tests.support import one_node
from tests.support.verify_cases import Feeds

IDS = {"draft_ids", "verify_lengths"}


def one_verification_model(block: int, vocab: int) -> ir.Model:
    """A graph of one `dspark::Verify`."""
    w, spec = GraphWriter("one_node", {}), VerifySpec(block)
    shapes = (["K", vocab], ["R", block], ["R", block, vocab], ["R"], ["R"], ["R", block + 1, 2])
    values = [
        w.input(name, shape, ir.DataType.INT64 if name in IDS else ir.DataType.FLOAT)
        for name, shape in zip(INPUTS, shapes, strict=True)
    ]
    outputs = [f"node.{name}" for name in OUTPUTS]
    results = w.op.call(verify_function(spec), *values, _outputs=outputs, **spec.attributes())
    for value, name in zip(results, OUTPUTS, strict=True):
        w.output(value, name, ["R"], ir.DataType.INT64)
    return w.model()


@cache
def session(block: int, vocab: int) -> Any:
    return one_node.session(one_verification_model(block, vocab))


def body(feeds: Feeds) -> VerifyResult:
    """The function body's result."""
    result = one_node.run(session(*feeds["draft_logits"].shape[1:]), feeds)
    return VerifyResult(*(result[name] for name in OUTPUTS))
