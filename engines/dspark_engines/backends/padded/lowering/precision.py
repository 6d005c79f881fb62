"""Half precision as a pass over a lowered graph: TensorRT networks are strongly typed, so the graph decides.

In half precision: linear layers, attention with its caches, and everything that has one line a token of the
vocabulary (embedding, output head, Markov tables). Those tables are float16 also where layers are bfloat16: their
inputs are normed, and logits of eight bits of mantissa would tie.

In float32: the residual stream and with it the taps, whose spikes pass 2e4; `fc`, which reads them; norms, rotary
embedding, softmax of the draft, the gated or recurrent mix, the confidence head; logits once they are accumulated.
"""

from __future__ import annotations

from typing import cast

import ml_dtypes
import numpy as np
import onnx_ir as ir

from dspark_engines.backends.options import EnginePrecision
from dspark_plugins import DOMAIN

FLOAT, FLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16
HALF_TYPES: dict[EnginePrecision, ir.DataType] = {"fp16": FLOAT16, "bf16": ir.DataType.BFLOAT16}
NUMPY_TYPES = {FLOAT16: np.dtype(np.float16), ir.DataType.BFLOAT16: np.dtype(ml_dtypes.bfloat16)}
TABLES = {"embed_tokens.weight", "lm_head.weight", "markov_head.markov_w1.weight", "markov_head.markov_w2.weight"}
LAYERS = "layers."


def to_half(graph: ir.Graph, precision: EnginePrecision) -> None:
    """Rewrite `graph` in place; weights are converted when they are written."""
    _Pass(graph, HALF_TYPES[precision]).run()


class _Pass:
    def __init__(self, graph: ir.Graph, half: ir.DataType) -> None:
        self.graph, self.half = graph, half
        self.weights: dict[str, ir.Value] = {}

    def run(self) -> None:
        for node in list(self.graph):
            match node.op_type:
                case _ if node.domain == DOMAIN:
                    self._plugin(node)
                case "MatMul" | "Gemm":
                    self._linear(node)
                case "Gather":
                    self._gather(node)
                case "TensorScatter":
                    self._scatter(node)
                case "Attention":
                    self._attention(node)

    def _linear(self, node: ir.Node) -> None:
        """x W, in half precision; a bias is added in float32."""
        weight = node.inputs[1]
        dtype = self._dtype_of(weight)
        if weight is None or dtype is None:
            return
        node.replace_input_with(0, self._cast(node, node.inputs[0], dtype, before=True))
        node.replace_input_with(1, self._half(weight, dtype))
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias is not None:
            node.resize_inputs(2)
        result = self._widen(node, dtype)
        if bias is not None:
            self._add_behind(result, bias)

    def _gather(self, node: ir.Node) -> None:
        table = node.inputs[0]
        if table is not None and table.name in TABLES:
            node.replace_input_with(0, self._half(table, FLOAT16))
            self._widen(node, FLOAT16)

    def _plugin(self, node: ir.Node) -> None:
        """Kernels take tables in half precision as they are, and compute in float32."""
        for index, value in enumerate(node.inputs):
            if value is not None and value.name in TABLES:
                node.replace_input_with(index, self._half(value, FLOAT16))

    def _scatter(self, node: ir.Node) -> None:
        """The cache itself is in half precision, going in and coming out."""
        cache, updated = node.inputs[0], node.outputs[0]
        assert cache is not None, "a cache is a graph input"
        cache.dtype = updated.dtype = self.half
        node.replace_input_with(1, self._cast(node, node.inputs[1], self.half, before=True))

    def _attention(self, node: ir.Node) -> None:
        node.replace_input_with(0, self._cast(node, node.inputs[0], self.half, before=True))
        self._widen(node, self.half)

    def _dtype_of(self, weight: ir.Value | None) -> ir.DataType | None:
        """Half precision's type for a weight, None where it stays as it is."""
        name = weight.name if weight is not None and weight.is_initializer() else None
        if name is None:
            return None
        return FLOAT16 if name in TABLES else self.half if name.startswith(LAYERS) else None

    def _half(self, weight: ir.Value, dtype: ir.DataType) -> ir.Value:
        """The converted initializer; the original goes when nobody reads it any more."""
        name = f"{weight.name}.{dtype.name.lower()}"
        if name not in self.weights:
            tensor = weight.const_value
            assert tensor is not None, "an initializer has a value"
            value = ir.Value(name=name, shape=weight.shape, type=ir.TensorType(dtype))
            value.const_value = _converted(tensor, dtype, name)
            self.graph.initializers[name] = value
            self.weights[name] = value
        return self.weights[name]

    def _cast(self, node: ir.Node, x: ir.Value | None, dtype: ir.DataType, *, before: bool) -> ir.Value:
        assert x is not None, "not an optional input"
        cast = ir.node("Cast", [x], {"to": dtype}, name=f"{x.name}.{dtype.name.lower()}.{node.name}")
        cast.outputs[0].name = cast.name
        cast.outputs[0].dtype = dtype
        (self.graph.insert_before if before else self.graph.insert_after)(node, cast)
        return cast.outputs[0]

    def _widen(self, node: ir.Node, dtype: ir.DataType) -> ir.Value:
        """The node's output is now of type `dtype`; its readers get it in float32."""
        output = node.outputs[0]
        users, is_output = list(output.uses()), output.is_graph_output()
        name = output.name
        output.dtype = dtype
        result = self._cast(node, output, FLOAT, before=False)
        for user, position in users:
            user.replace_input_with(position, result)
        if is_output:
            output.name = f"{name}.half"
            result.name, result.shape = name, output.shape
            self.graph.outputs[self.graph.outputs.index(output)] = result
        return result

    def _add_behind(self, value: ir.Value, bias: ir.Value) -> None:
        producer = value.producer()
        assert producer is not None, "a cast made it"
        users = list(value.uses())
        add = ir.node("Add", [value, bias], name=f"{value.name}.biased")
        add.outputs[0].name = add.name
        add.outputs[0].dtype = FLOAT
        self.graph.insert_after(producer, add)
        for user, position in users:
            user.replace_input_with(position, add.outputs[0])


def _converted(tensor: ir.TensorProtocol, dtype: ir.DataType, name: str) -> ir.LazyTensor:
    """`tensor` in half precision, loaded and rounded when it is serialised, and not kept."""
    shape = cast(ir.Shape, tensor.shape)  # known: it is an initializer
    return ir.LazyTensor(
        lambda: ir.tensor(tensor.numpy().astype(NUMPY_TYPES[dtype]), dtype=dtype, name=name),
        dtype=dtype,
        shape=shape,
        name=name,
    )
