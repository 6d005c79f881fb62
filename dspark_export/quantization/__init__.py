"""Precision as a pass over exported graphs."""

from dspark_export.quantization.graph_pass import quantize_graph
from dspark_export.quantization.planning import LayerPlan, Plans, plan_drafter, plan_target
from dspark_export.quantization.weights import Int8Weight

__all__ = ["Int8Weight", "LayerPlan", "Plans", "plan_drafter", "plan_target", "quantize_graph"]
