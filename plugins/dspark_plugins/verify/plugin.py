"""The steps of this op as TensorRT plugins."""

from __future__ import annotations

from dspark_plugins.nodes.tensorrt import register
from dspark_plugins.verify.steps import NODES


def register_plugins() -> None:
    """Make TensorRT's builder know the nodes that `lowering` writes. May be called again.

    Raises `ImportError` where tensorrt or triton is not installed.
    """
    register(NODES)
