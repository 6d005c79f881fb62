"""Custom ops as plugin nodes, whose kernels an engine carries: for the flavour that takes plugins."""

from __future__ import annotations

import onnx_ir as ir

from dspark_engines.errors import BackendError
from dspark_plugins import DOMAIN
from dspark_plugins.accept import steps as accept_steps
from dspark_plugins.accept.contract import ACCEPT
from dspark_plugins.accept.lowering import lower_accept_nodes
from dspark_plugins.markov_head import MARKOV_HEAD
from dspark_plugins.markov_head import steps as markov_steps
from dspark_plugins.markov_head.lowering import lower_markov_heads
from dspark_plugins.nodes.rewriting import NAMESPACE

LOWERINGS = (lower_markov_heads, lower_accept_nodes)
CHAINS = {MARKOV_HEAD: markov_steps.NODES, ACCEPT: accept_steps.NODES}


def lower_to_plugins(model: ir.Model, capability: str, greedy: bool) -> set[str]:
    """Replace ops that have kernels by chains of plugin nodes; returns the nodes' op types. `model` is changed.

    Every node has its body as a local function. Kernels are for compute capability `capability`, "9.0". Raises
    `BackendError` for a graph that they cannot serve.
    """
    number = int(capability.replace(".", ""))
    try:
        for lower in LOWERINGS:
            lower(model, number, not greedy)
    except ValueError as error:
        raise BackendError(
            f"this graph cannot run with plugins: {error}", hint="pass --no-plugins: TensorRT then runs the ops' bodies"
        ) from None
    return {node.op_type for node in plugin_nodes(model)}


def plugin_nodes(model: ir.Model) -> list[ir.Node]:
    """The nodes that TensorRT takes for plugins."""
    return [node for node in model.graph if node.domain == DOMAIN and NAMESPACE in node.attributes]


def plugin_ops(model: ir.Model) -> tuple[str, ...]:
    """The custom ops that these nodes have replaced."""
    names = {node.op_type for node in plugin_nodes(model)}
    return tuple(op for op, chain in CHAINS.items() if any(node.op in names for node in chain))


def drop_bodies(model: ir.Model) -> None:
    """Remove the function bodies of plugin nodes.

    TensorRT's parser runs a body where it does not find the plugin, and says nothing: without bodies it names the node.
    """
    for node in plugin_nodes(model):
        model.functions.pop(node.op_identifier(), None)
