"""What the plugins of all ops share: a node's description, its compilation, launch and registration."""

from dspark_plugins.nodes.node import PluginNode

__all__ = ["PluginNode"]
