"""Run an exported float32 graph and see what goes into each of its linear layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from dspark_engines.arrays import Floats
from dspark_export.quantization.layers import LinearLayer, linear_layers
from dspark_export.reference_graph import Arrays, ReferenceGraph
from dspark_plugins.domain import DOMAIN
from dspark_plugins.markov_head import MARKOV_HEAD


class Traced(NamedTuple):
    """One layer: its input x [n, K], a function that loads its weight [K, N], and the `sum` [n, N] of its output
    with the residual stream, where it is added to that. `norms`: weights of all the graph's norms by name."""

    name: str
    x: Floats
    weight: Callable[[], Floats]
    sum: Floats | None
    norms: dict[str, Floats]


def trace(path: Path, feeds: Arrays, rows: int, capacity: int) -> tuple[list[Traced], Arrays]:
    """Run the graph at `path` on `feeds`: its layers in order, and its own outputs. Writes a graph beside it."""
    model = ir.load(path)
    InlinePass(lambda function: (function.domain, function.name) == (DOMAIN, MARKOV_HEAD))(model)
    layers = list(_layers(model.graph))
    wanted = {value: width for layer in layers for value, width in _values(layer)}
    shown = [value for value in wanted if not value.is_graph_output()]
    for value in shown:
        value.shape, value.dtype = ir.Shape([None, wanted[value]]), ir.DataType.FLOAT
        model.graph.outputs.append(value)
    traced = path.with_name(f"trace.{path.name}")
    onnx.save(ir.to_proto(model), traced)
    results = ReferenceGraph(traced, rows, capacity).step(**feeds)
    norms = {name: _array(value) for name, value in model.graph.initializers.items() if "norm" in name}
    return list(_joined(layers, results, norms)), {n: results[n] for n in results.keys() - {v.name for v in shown}}


def _layers(graph: ir.Graph) -> Iterator[LinearLayer]:
    """Those that integers may stand for; every step of the sequential head is one, all with the same weight."""
    known = {layer.node: layer for layer in linear_layers(graph)}
    for node in graph:
        if node in known:
            yield known[node]
        elif node.op_type == "Gemm" and len(node.inputs) == 3 and _is_head(node.inputs[1]):
            x, weight = node.inputs[:2]
            assert x is not None, "Gemm has no optional inputs but the last"
            assert weight is not None, "Gemm has no optional inputs but the last"
            yield LinearLayer(node, x, weight, transposed=True)


def _is_head(weight: ir.Value | None) -> bool:
    return weight is not None and weight.is_initializer() and (weight.name or "").endswith("markov_w2.weight")


def _values(layer: LinearLayer) -> Iterator[tuple[ir.Value, int]]:
    """What has to be seen of a layer, with its width."""
    inner, outer = layer.shape
    yield layer.x, inner
    if (total := _sum(layer)) is not None:
        yield total, outer


def _sum(layer: LinearLayer) -> ir.Value | None:
    """The output of the addition that the layer's output goes into, and nowhere else."""
    users = [use.node for use in layer.node.outputs[0].uses()]
    return users[0].outputs[0] if len(users) == 1 and users[0].op_type == "Add" else None


def _joined(layers: list[LinearLayer], results: Arrays, norms: dict[str, Floats]) -> Iterator[Traced]:
    """One entry a weight."""
    by_name: dict[str, list[LinearLayer]] = {}
    for layer in layers:
        by_name.setdefault(layer.name, []).append(layer)
    for name, same in by_name.items():
        sums = [results[total.name or ""] for layer in same if (total := _sum(layer)) is not None]
        yield Traced(
            name,
            np.concatenate([results[layer.x.name or ""] for layer in same]),
            same[0].load,
            np.concatenate(sums) if sums else None,
            norms,
        )


def _array(value: ir.Value) -> Floats:
    assert value.const_value is not None, "initializers have values"
    return np.asarray(value.const_value.numpy(), np.float32)
