"""`dspark::Verify`'s function body in ONNX Runtime."""

from __future__ import annotations

from functools import cache
from typing import Any

from dspark_export.graphs import build_verification_graph
from dspark_plugins.verify import OUTPUTS
from dspark_plugins.verify.reference import VerifyResult
from tests.support import one_node
from tests.support.verify_cases import Feeds


@cache
def session(block: int, vocab: int) -> Any:
    return one_node.session(build_verification_graph(vocab, block))


def body(feeds: Feeds) -> VerifyResult:
    """The function body's result."""
    result = one_node.run(session(*feeds["draft_logits"].shape[1:]), feeds)
    return VerifyResult(*(result[name] for name in OUTPUTS))
