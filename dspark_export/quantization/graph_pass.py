"""Replace the linear layers of an exported graph by `dspark::QuantizeRows` and `dspark::Int8Linear`.

What stays in float32: the embedding and the norms (not linear layers), `fc`, the confidence head and a gated or
rnn head's mix, which are small and decide much, and attention.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import onnx_ir as ir

from dspark_engines.arrays import Floats
from dspark_export.quantization.layers import LinearLayer, linear_layers, load_weight
from dspark_export.quantization.planning import LayerPlan
from dspark_export.quantization.rotation import Rotations, rotated_back
from dspark_export.quantization.weights import Int8Weight, Load, int8_weight, lazy_tensor
from dspark_plugins.domain import DOMAIN
from dspark_plugins.graph_rewriting import Rewriter
from dspark_plugins.int8_linear.function import (
    call_int8_linear,
    call_quantize_rows,
    int8_linear_function,
    quantize_rows_function,
)
from dspark_plugins.markov_head import MARKOV_HEAD, OUTPUTS, MarkovHeadSpec
from dspark_plugins.markov_head.function import markov_head_function

Rows = tuple[ir.Value, ir.Value]
PLAIN = LayerPlan()


def quantize_graph(
    model: ir.Model,
    plans: Mapping[str, LayerPlan],
    *,
    head: MarkovHeadSpec | None = None,
    keep: Collection[str] = (),
    shared: Mapping[str, Int8Weight] | None = None,
) -> None:
    """Quantise every linear layer of `model` but those whose weights are named in `keep`, in place.

    `plans` are from `plan_target` or `plan_drafter`; a layer without one is quantised plainly. `head` is the spec
    of the graph's Markov head, if it has one. `shared` holds weights that another graph has quantised already, by
    the name that they have here; smoothing and rotation that are in them have to be in `plans`. Weights are loaded,
    quantised and checked when the model is written.
    """
    _Pass(model, plans, head, keep, shared or {}).run()


class _Pass:
    def __init__(
        self,
        model: ir.Model,
        plans: Mapping[str, LayerPlan],
        head: MarkovHeadSpec | None,
        keep: Collection[str],
        shared: Mapping[str, Int8Weight],
    ) -> None:
        self.model, self.graph, self.plans, self.head, self.keep = model, model.graph, plans, head, keep
        self.shared = shared
        self.layers = {layer.node: layer for layer in linear_layers(model.graph, keep)}
        self._rows: dict[tuple[ir.Value, int, int], Rows] = {}
        self._smoothed: set[ir.Value] = set()
        self._constants: dict[str, ir.Value] = {}
        self._rewriter = Rewriter(model.graph, "int8")
        self.builder, self.op = self._rewriter.builder, self._rewriter.op
        self._rotations = Rotations(self.builder)

    def run(self) -> None:
        """Put every node back, or its integer form instead; drop the weights that nobody reads any more."""
        self._rewriter.run(self._rewrite)
        for name, value in list(self.graph.initializers.items()):
            if not value.uses():
                del self.graph.initializers[name]
        bodies = [make(terms) for make in (quantize_rows_function, int8_linear_function) for terms in (1, 2)]
        for function in bodies:
            self.model.functions[function.identifier()] = function
        self._rewriter.add_functions(self.model)

    def _rewrite(self, node: ir.Node) -> bool:
        """Write the integer form of `node`, if it has one."""
        if node in self.layers:
            self._rewriter.replace(node, self._linear(self.layers[node]))
            return True
        if node.op_type == MARKOV_HEAD and node.domain == DOMAIN and self.head is not None and self.head.rank:
            inputs = [value for value in node.inputs if value is not None]
            self._rewriter.replace(node, *self._markov_head(self.head, inputs))
            return True
        return False

    def _linear(self, layer: LinearLayer) -> ir.Value:
        plan = self.plans.get(layer.name, PLAIN)
        x = layer.x
        if plan.smoothing is not None and not plan.folded:
            factors = ir.tensor(plan.smoothing, name=f"{layer.name}.smoothing")
            x = self.op.Div(x, self._constant(factors))
        elif plan.smoothing is not None and x not in self._smoothed:
            self._smooth_norm(x, plan.smoothing)
            self._smoothed.add(x)
        weight = self._weight(layer.weight, layer.shape, partial(_prepared, layer, plan))
        rows = self._quantized(x, layer.shape[0], plan.rotation, plan.terms)
        return call_int8_linear(self.op, rows, *weight, plan.terms)

    def _smooth_norm(self, x: ir.Value, factors: Floats) -> None:
        """Divide the weight of the norm that makes x."""
        norm = x.producer()
        assert norm is not None, "only outputs of norms are smoothed"
        value = norm.inputs[1]
        assert value is not None, "norms have weights"
        name, source = value.name or "", value.const_value
        assert source is not None, "initializers have values"
        tensor = lazy_tensor(f"{name}.smoothed", source.dtype, factors.shape, lambda: source.numpy() / factors)
        norm.replace_input_with(1, self._constant(tensor))

    def _markov_head(self, head: MarkovHeadSpec, inputs: list[ir.Value]) -> list[ir.Value]:
        """The same head with W2 in integers, unless W2 is to be kept."""
        values = dict(zip(head.inputs(), inputs, strict=True))
        w2 = values["w2"]
        spec = replace(head, int8=w2.name not in self.keep)
        if spec.int8:
            assert w2.shape is not None, "initializers have shapes"
            vocabulary, rank = (size for size in w2.shape if isinstance(size, int))
            load = partial(load_weight, w2, transposed=True)
            values["w2"], values["w2_scale"] = self._weight(w2, (rank, vocabulary), load)
        arguments = [values[name] for name in spec.inputs()]
        results = self.op.call(markov_head_function(spec), *arguments, _outputs=len(OUTPUTS), **spec.attributes())
        return list(results)

    def _quantized(self, x: ir.Value, width: int, rotation: int, terms: int) -> Rows:
        """The rows of x [n, width] in integers, once for all who read them; of joined rows, the parts."""
        key = (x, rotation, terms)
        if key not in self._rows:
            producer = x.producer()
            joined = producer is not None and producer.op_type == "Concat" and producer.attributes["axis"].as_int() == 0
            if producer is not None and joined and terms == 1:
                parts = [self._quantized(part, width, rotation, 1) for part in producer.inputs if part is not None]
                rows = (self._join([q for q, _ in parts]), self._join([s for _, s in parts]))
            else:
                turned = self._rotations.rotate(x, rotation, width) if rotation else x
                rows = call_quantize_rows(self.op, turned, terms)
                rows[0].dtype, rows[1].dtype = ir.DataType.UINT8, ir.DataType.FLOAT
            self._rows[key] = rows
        return self._rows[key]

    def _join(self, parts: list[ir.Value]) -> ir.Value:
        joined: ir.Value = self.op.Concat(*parts, axis=0)
        return joined

    def _weight(self, value: ir.Value, shape: tuple[int, int], load: Load) -> Rows:
        name = value.name or ""
        tensors = self.shared.get(name) or int8_weight(name, shape, load)
        int8, scale = (
            self._constant(tensor, f"{name}.{kind}") for kind, tensor in zip(Int8Weight._fields, tensors, strict=True)
        )
        return int8, scale

    def _constant(self, tensor: ir.TensorProtocol, name: str = "") -> ir.Value:
        """An initializer by its name: a chain asks for each at every step."""
        name = name or tensor.name or ""
        if name not in self._constants:
            self._constants[name] = self.builder.initializer(tensor, name, qualify=False)
        return self._constants[name]


def _prepared(layer: LinearLayer, plan: LayerPlan) -> Floats:
    """The layer's weight [K, N], its rows multiplied by what its input was divided by, and rotated like it."""
    weight = layer.load()
    smooth = weight if plan.smoothing is None else np.asarray(weight * plan.smoothing[:, None], np.float32)
    return rotated_back(smooth, plan.rotation)
