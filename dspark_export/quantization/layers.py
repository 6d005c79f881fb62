"""The linear layers of an exported graph."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import onnx_ir as ir

from dspark_engines.arrays import Floats
from dspark_export.quantization.weights import check_weight

FLOAT_LAYERS = ("fc.weight",)
"""Its input spikes (target features reach 2e4) and everything drafted follows from it: float32 always."""
ROUTERS = (".mlp.router.weight", ".router.proj.weight")
"""How names of routers' weights end: small, and which experts a token takes follows from them. Float32 too."""


class LinearLayer(NamedTuple):
    """One node of x [n, K] times a weight: an initializer [K, N], or [N, K] when `transposed`."""

    node: ir.Node
    x: ir.Value
    weight: ir.Value
    transposed: bool

    @property
    def name(self) -> str:
        """The weight's name, which is the layer's."""
        return self.weight.name or ""

    @property
    def shape(self) -> tuple[int, int]:
        """(K, N)."""
        assert self.weight.shape is not None, "initializers have shapes"
        first, second = (size for size in self.weight.shape if isinstance(size, int))
        return (second, first) if self.transposed else (first, second)

    def load(self) -> Floats:
        """The weight as [K, N]. Raises `CheckpointError` when it cannot be quantised."""
        return load_weight(self.weight, transposed=self.transposed)


def linear_layers(graph: ir.Graph, keep: Collection[str] = ()) -> Iterator[LinearLayer]:
    """The layers that integers may stand for: all but `FLOAT_LAYERS`, routers and those named in `keep`, in order."""
    for node in graph:
        inputs = [value for value in node.inputs if value is not None]
        if node.domain or node.op_type not in ("MatMul", "Gemm") or len(inputs) != 2:
            continue
        x, weight = inputs
        if not weight.is_initializer() or weight.name in {*FLOAT_LAYERS, *keep}:
            continue
        if (weight.name or "").endswith(ROUTERS):
            continue
        assert node.op_type == "MatMul" or node.attributes["transB"].as_int() == 1, "the exporter writes no other"
        yield LinearLayer(node, x, weight, node.op_type == "Gemm")


def load_weight(value: ir.Value, *, transposed: bool) -> Floats:
    """An initializer as [K, N], checked."""
    assert value.const_value is not None, "initializers have values"
    array = check_weight(value.name or "", value.const_value.numpy())
    return array.T if transposed else array
