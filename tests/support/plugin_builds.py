"""Plugins registered and built through NVIDIA's Python layer, for tests: in a process where Triton compiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from dspark_plugins.accept import plugin as verify_plugin
from dspark_plugins.accept import steps as accept_steps
from dspark_plugins.markov_head import plugin as markov_plugin
from dspark_plugins.markov_head import steps as markov_steps
from dspark_plugins.nodes.ptx import declared_parameters
from tests.support import tensorrt_stand_in

Inputs = Sequence[tuple[Sequence[int], str]]
NODES = {node.op: node for node in (*markov_steps.NODES, *accept_steps.NODES)}


@cache
def tensorrt() -> Any:
    """The stand-in, with our plugins registered: twice, as two engines built in one process do."""
    trt = tensorrt_stand_in.install()
    for _ in range(2):
        markov_plugin.register_plugins()
        verify_plugin.register_plugins()
    return trt


def registered() -> dict[str, tuple[list[str], list[str], int]]:
    """(input tensors, attributes, number of outputs) of each plugin, as TensorRT has understood them."""
    found = tensorrt().plugin._lib.QDP_REGISTRY.items()
    return {name: (list(d.input_tensor_names), list(d.input_attrs), d.num_outputs) for name, d in found}


def build(op: str, inputs: Inputs, attributes: Mapping[str, int], most_rows: int | None = None) -> dict[str, Any]:
    """What TensorRT learns of one node while it builds an engine."""
    built = tensorrt_stand_in.PluginBuild(tensorrt(), op, inputs, attributes, most_rows)
    return {
        "types": [kind.name for kind in built.output_types],
        "shapes": built.output_shapes,
        "launch": built.launched(),
        "integers": built.integers,
        "kernel": built.name,
        "parameters": [kind for kind, _ in declared_parameters(built.ptx.decode(), built.name)],
        "ptx": built.ptx.decode(),
    }


def expected_grid(op: str, attributes: Mapping[str, int], rows: int, most_rows: int) -> tuple[int, ...]:
    """The grid that the node is launched with outside TensorRT."""
    from dspark_plugins.nodes.node import ceil_div

    node = NODES[op]
    return tuple(node.grid(attributes, rows, ceil_div, node.constants(attributes, most_rows)))


def refuse_without_rewriting(kind: str) -> str:
    """What NVIDIA's validators say of definitions that break their rules: they are awake."""
    trt = tensorrt()
    qdp = trt.plugin

    def untyped(x, step: int) -> qdp.TensorDesc:  # type: ignore[no-untyped-def]
        return x.like()

    def implement(x, outputs, tactic) -> tuple[str, str]:  # type: ignore[no-untyped-def]
        raise AssertionError("never called")

    try:
        if kind == "register":
            qdp.register("dspark::Broken")(untyped)
        else:
            qdp.aot_impl("dspark::MarkovPick")(implement)
    except ValueError as error:
        return str(error)
    raise AssertionError("the validator let it pass")
