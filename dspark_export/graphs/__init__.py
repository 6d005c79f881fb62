"""Specs and weights become ONNX graphs."""

from dspark_export.graphs.drafter import build_drafter_graph, head_spec
from dspark_export.graphs.save import save_graph
from dspark_export.graphs.target import build_target_graph
from dspark_export.graphs.verification import build_verification_graph

__all__ = ["build_drafter_graph", "build_target_graph", "build_verification_graph", "head_spec", "save_graph"]
