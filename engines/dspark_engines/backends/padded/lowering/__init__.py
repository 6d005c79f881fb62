"""From an exported graph to one whose steps have fixed shapes, in standard operators."""

from dspark_engines.backends.padded.lowering.lower import GraphPass, lower_graph
from dspark_engines.backends.padded.lowering.precision import HALF_TYPES
from dspark_engines.backends.padded.lowering.save import save_lowered

__all__ = ["HALF_TYPES", "GraphPass", "lower_graph", "save_lowered"]
