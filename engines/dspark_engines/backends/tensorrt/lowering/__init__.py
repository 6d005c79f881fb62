"""From an exported graph to one that TensorRT's parser takes."""

from dspark_engines.backends.tensorrt.lowering.lower import lower_graph, read_block_size
from dspark_engines.backends.tensorrt.lowering.plugins import drop_bodies, plugin_nodes, plugin_ops
from dspark_engines.backends.tensorrt.lowering.precision import HALF_TYPES
from dspark_engines.backends.tensorrt.lowering.save import save_lowered

__all__ = ["HALF_TYPES", "drop_bodies", "lower_graph", "plugin_nodes", "plugin_ops", "read_block_size", "save_lowered"]
