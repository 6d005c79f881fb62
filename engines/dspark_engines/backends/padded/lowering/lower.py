"""Lower an exported graph: attention, the sequential head without branches, no local functions, half precision."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, RemoveUnusedNodesPass

from dspark_engines.backends.exported import SCORES
from dspark_engines.backends.options import EnginePrecision
from dspark_engines.backends.padded.lowering.attention import LOWERINGS, check_scores
from dspark_engines.backends.padded.lowering.older_ops import rename_older_ops
from dspark_engines.backends.padded.lowering.precision import to_half
from dspark_engines.backends.padded.lowering.rewriting import PaddedLowering
from dspark_plugins import DOMAIN
from dspark_plugins.accept import ACCEPT, AcceptSpec
from dspark_plugins.accept.function import accept_function
from dspark_plugins.attention.function import read_node as read_attention
from dspark_plugins.markov_head import MARKOV_HEAD
from dspark_plugins.markov_head.function import markov_head_function, read_node

GraphPass = Callable[[ir.Model], Collection[str]]
"""Changes a graph; the local functions that it names stay functions."""
CELLS = "C"
"""The extent of a cache that a graph leaves open (see `bundle.caches`)."""
LENGTHS = ("row_lengths", "feature_lengths")
DRAFT_LOGITS = "draft_logits"
FOR_SAMPLING = ("temperature", "uniforms", DRAFT_LOGITS)


def lower_graph(
    source: Path,
    capacity: int,
    precision: EnginePrecision,
    *,
    custom_ops: GraphPass | None = None,
    greedy: bool = False,
) -> ir.Model:
    """`source` in padded steps, caches of `capacity` cells, weights still on the disk.

    `custom_ops` replaces the ops that a backend has kernels for; all others become standard ops. A `greedy` graph is
    for rows of temperature 0: a drafter without output draft_logits, an accept graph without what it takes to sample.
    Raises `BackendError` for a graph that steps of fixed shapes cannot serve, and what `custom_ops` raises.
    """
    model = ir.load(source)
    rename_older_ops(model)
    _drop_scores(model)
    _fix_capacity(model.graph, capacity)
    low = PaddedLowering(model.graph)
    low.run(lambda node: _lower(low, node))
    for name in LENGTHS:
        if any(value.name == name for value in model.graph.inputs):
            low.drop_input(name)
    for key in [key for key in model.functions if key[0] == DOMAIN and key[1] in LOWERINGS]:
        del model.functions[key]
    if greedy:
        _drop_draft_logits(model.graph)
    kept = custom_ops(model) if custom_ops else ()
    _unbranch(model, greedy)
    InlinePass(lambda function: function.name not in kept)(model)
    if precision != "fp32":
        to_half(model.graph, precision)
    RemoveUnusedNodesPass()(model)
    _drop_idle_inputs(model.graph)
    return model


def _drop_scores(model: ir.Model) -> None:
    """What drafters without a confidence head say in its place: an estimate that no padded engine feeds yet."""
    for value in [value for value in model.graph.outputs if value.name == SCORES]:
        model.graph.outputs.remove(value)
        RemoveUnusedNodesPass()(model)


def _drop_draft_logits(graph: ir.Graph) -> None:
    """Rejection tests read them; greedy requests have none."""
    for value in [value for value in graph.outputs if value.name == DRAFT_LOGITS]:
        graph.outputs.remove(value)


def _drop_idle_inputs(graph: ir.Graph) -> None:
    """A greedy chain draws nothing, and TensorRT may keep an input that nobody reads or not."""
    for value in [value for value in graph.inputs if value.name in FOR_SAMPLING and not value.uses()]:
        graph.inputs.remove(value)


def _fix_capacity(graph: ir.Graph, capacity: int) -> None:
    for value in [*graph.inputs, *graph.outputs]:
        assert value.shape is not None, "exported graphs declare their interface"
        value.shape = ir.Shape([capacity if str(extent) == CELLS else extent for extent in value.shape])


def _lower(low: PaddedLowering, node: ir.Node) -> bool:
    if node.domain != DOMAIN or node.op_type not in LOWERINGS:
        return False
    spec = read_attention(node)
    check_scores(spec)
    LOWERINGS[node.op_type](low, node, spec)
    return True


def _unbranch(model: ir.Model, greedy: bool) -> None:
    """Exchange the ops' bodies for ones that a CUDA graph can hold."""
    for node in model.graph:
        key = node.op_identifier()
        if node.domain != DOMAIN or key not in model.functions:
            continue
        if node.op_type == MARKOV_HEAD:
            model.functions[key] = markov_head_function(read_node(node), branching=False)
        elif node.op_type == ACCEPT:
            spec = AcceptSpec(node.attributes["block_size"].as_int())
            model.functions[key] = accept_function(spec, "greedy" if greedy else "mixed")
