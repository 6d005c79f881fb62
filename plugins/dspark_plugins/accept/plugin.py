"""The steps of this op as TensorRT plugins."""

from __future__ import annotations

from dspark_plugins.accept.steps import NODES
from dspark_plugins.nodes.tensorrt import register


def register_plugins() -> None:
    """Make TensorRT's builder know the nodes that `lowering` writes. May be called again.

    Raises `ImportError` where tensorrt or triton is not installed.
    """
    register(NODES)
