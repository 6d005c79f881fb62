"""A thin layer over onnxscript's GraphBuilder: weights by canonical name, loaded only when written to disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir
from onnxscript import GraphBuilder

from dspark_engines.arrays import Ints
from dspark_engines.bundle.caches import CacheSpec, write_caches
from dspark_export.checkpoints import Weights
from dspark_export.checkpoints.tensors import Array
from dspark_plugins import DOMAIN, DOMAIN_VERSION, OPSET

ROWS_AT_A_TIME = 64
IR_VERSION = 11  # the oldest that every backend we target reads together with opset 24


class GraphWriter:
    """Collects one ONNX graph. Floating tensors are float32, weights of linear layers lie as [in, out]."""

    def __init__(
        self, name: str, weights: Weights | None = None, shared: Mapping[str, ir.TensorProtocol] | None = None
    ) -> None:
        graph = ir.Graph([], [], nodes=[], opset_imports={"": OPSET, DOMAIN: DOMAIN_VERSION}, name=name)
        self.builder = GraphBuilder(graph)
        self.op = self.builder.op
        self._weights = weights
        self._shared = shared or {}
        self._known: dict[str, ir.Value] = {}
        self.caches: dict[str, CacheSpec] = {}

    @property
    def weights(self) -> Weights:
        """What `weight` and `linear` read from."""
        assert self._weights is not None, "this graph has no weights"
        return self._weights

    def input(self, name: str, shape: Sequence[int | str], dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
        """Declare a graph input; strings are symbolic dimensions."""
        return self.builder.input(name, dtype, list(shape))

    def output(
        self, value: ir.Value, name: str, shape: Sequence[int | str], dtype: ir.DataType = ir.DataType.FLOAT
    ) -> None:
        """Declare a graph output."""
        value.shape, value.dtype = ir.Shape(shape), dtype
        self.builder.add_output(value, name)

    def cache(self, name: str, updated: str, row: Sequence[int | str]) -> ir.Value:
        """Declare a cache as an input [R, *row], C cells; `update` gives its output, called `updated`."""
        self.caches[name] = CacheSpec(name, updated)
        return self.input(name, ["R", *row])

    def update(self, name: str, value: ir.Value, row: Sequence[int | str]) -> None:
        """What the cache called `name` is after the step."""
        self.output(value, self.caches[name].output, ["R", *row])

    def weight(self, name: str) -> ir.Value:
        """A tensor as the checkpoint has it."""
        if name in self._shared:
            return self.once(name, lambda: self._shared[name])
        shape = self.weights.shapes[name]
        return self.once(name, lambda: lazy(name, shape, lambda: self.weights[name]))

    def constant(self, name: str, array: Array | Ints) -> ir.Value:
        """A tensor that we computed."""
        return self.once(name, lambda: ir.tensor(array, name=name))

    def linear(self, x: ir.Value, *names: str, fused: str = "", bias: bool = False) -> ir.Value:
        """x [n, in] times the named weights [out, in], side by side along the output axis, plus their biases."""
        shapes = [self.weights.shapes[name] for name in names]
        name, width, out = fused or names[0], shapes[0][1], sum(shape[0] for shape in shapes)

        def load() -> Array:
            return turned((self.weights[one] for one in names), width, out)

        weight = self.once(name, lambda: lazy(name, (width, out), load))
        product = self.op.MatMul(x, weight)
        return self.op.Add(product, self._bias(names, bias_of(name), out)) if bias else product

    def _bias(self, names: Sequence[str], name: str, size: int) -> ir.Value:
        """Biases of the named weights, one behind the other."""
        return self.once(
            name, lambda: lazy(name, (size,), lambda: np.concatenate([self.weights[bias_of(n)] for n in names]))
        )

    def rms_norm(self, x: ir.Value, name: str, epsilon: float) -> ir.Value:
        """RMS norm over the last axis, computed in float32."""
        return self.op.RMSNormalization(x, self.weight(name), axis=-1, epsilon=epsilon)

    def scaled(self, x: ir.Value, factor: float) -> ir.Value:
        """x times `factor`."""
        return x if factor == 1 else self.op.Mul(x, factor)

    def softcap(self, logits: ir.Value, cap: float) -> ir.Value:
        """cap * tanh(logits / cap); the logits themselves where `cap` is 0."""
        return self.op.Mul(self.op.Tanh(self.op.Div(logits, cap)), cap) if cap else logits

    def model(self) -> ir.Model:
        """The finished model with the local functions it called."""
        functions = list(self.builder.functions.values())
        return ir.Model(
            self.builder.graph,
            ir_version=IR_VERSION,
            functions=functions,
            producer_name="dspark-export",
            metadata_props=write_caches(self.caches.values()),
        )

    def once(self, name: str, make: Callable[[], ir.TensorProtocol]) -> ir.Value:
        """The initializer called `name`, which `make` gives when somebody first asks for it."""
        if name not in self._known:
            self._known[name] = self.builder.initializer(make(), name)
        return self._known[name]


def bias_of(name: str) -> str:
    """The name of the bias that belongs to a weight."""
    return name.removesuffix("weight") + "bias"


def turned(weights: Iterable[Array], width: int, out: int) -> Array:
    """Weights [out_i, width] as one [width, out], side by side; a block of rows at a time, which stays in the cache."""
    result, start = np.empty((width, out), np.float32), 0
    for weight in weights:
        for row in range(0, len(weight), ROWS_AT_A_TIME):
            block = weight[row : row + ROWS_AT_A_TIME]
            result[:, start + row : start + row + len(block)] = block.T
        start += len(weight)
    return result


def lazy(name: str, shape: Sequence[int], load: Callable[[], Array]) -> ir.LazyTensor:
    """A float32 initializer that is loaded when it is serialised, and not kept."""
    return ir.LazyTensor(
        lambda: ir.tensor(load(), name=name), dtype=ir.DataType.FLOAT, shape=ir.Shape(shape), name=name
    )
