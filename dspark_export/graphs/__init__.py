"""Specs and weights become ONNX graphs."""

from dspark_export.graphs.accept import build_accept_graph
from dspark_export.graphs.chain import build_chain_graph
from dspark_export.graphs.drafter import build_drafter_graph, head_spec
from dspark_export.graphs.features import take_features
from dspark_export.graphs.save import save_graph
from dspark_export.graphs.target import build_target_graph

__all__ = [
    "build_accept_graph",
    "build_chain_graph",
    "build_drafter_graph",
    "build_target_graph",
    "head_spec",
    "save_graph",
    "take_features",
]
