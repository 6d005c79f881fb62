"""`dspark::Accept`'s function body in ONNX Runtime."""

from __future__ import annotations

from functools import cache
from typing import Any

from dspark_export.graphs import build_accept_graph
from dspark_plugins.accept import OUTPUTS
from dspark_plugins.accept.reference import AcceptResult
from tests.support import one_node
from tests.support.accept_cases import Feeds


@cache
def session(block: int, vocab: int) -> Any:
    return one_node.session(build_accept_graph(vocab, block))


def body(feeds: Feeds) -> AcceptResult:
    """The function body's result."""
    result = one_node.run(session(*feeds["draft_logits"].shape[1:]), feeds)
    return AcceptResult(*(result[name] for name in OUTPUTS))
