"""A mixture of experts in a graph: the router in standard ops, and `dspark::ExpertMlp`."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dspark_export.checkpoints import DecoderShape, ExpertSpec
from dspark_export.checkpoints.tensors import Array
from dspark_export.graphs.writer import GraphWriter, lazy
from dspark_plugins.expert_mlp import ExpertMlpSpec
from dspark_plugins.expert_mlp.function import expert_mlp_function


def expert_mlp(w: GraphWriter, shape: DecoderShape, i: int, x: ir.Value) -> ir.Value:
    """The experts of layer i on its normed states x, [n, H] -> [n, H]."""
    experts = shape.layers[i].experts
    assert experts is not None, "the layer has experts"
    shares, chosen = _route(w, i, experts, x)
    spec = ExpertMlpSpec(biased=experts.biased, alpha=experts.alpha, limit=experts.limit, up_offset=experts.up_offset)
    weights = [_stack(w, i, ("gate", "up"), "weight"), _stack(w, i, ("down",), "weight")]
    if experts.biased:
        weights += [_stack(w, i, ("gate", "up"), "bias"), _stack(w, i, ("down",), "bias")]
    call = expert_mlp_function(spec, _overload(shape, experts))
    y: ir.Value = w.op.call(call, x, shares, chosen, *weights, _outputs=[f"layers.{i}.mlp.output"], **spec.attributes())
    y.shape, y.dtype = ir.Shape(["N", shape.hidden_size]), ir.DataType.FLOAT
    return y


def _route(w: GraphWriter, i: int, experts: ExpertSpec, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Shares and numbers of the experts of every token, [n, k] each."""
    op, k = w.op, [experts.per_token]
    scores = w.linear(x, f"layers.{i}.mlp.router.weight", bias=experts.biased)
    if experts.renormalised:
        best, chosen = op.TopK(scores, k, axis=-1, _outputs=2)
        return op.Softmax(best, axis=-1), chosen
    shares, chosen = op.TopK(op.Softmax(scores, axis=-1), k, axis=-1, _outputs=2)
    return shares, chosen


def _stack(w: GraphWriter, i: int, which: tuple[str, ...], kind: str) -> ir.Value:
    """Weights [E, out, in], or biases [E, out], of the projections `which` side by side."""
    names = [f"layers.{i}.mlp.experts.{one}_proj.{kind}" for one in which]
    shapes = [w.weights.shapes[name] for name in names]
    count, out = shapes[0][0], sum(shape[1] for shape in shapes)

    def load() -> Array:
        return np.concatenate([w.weights[name] for name in names], axis=1) if len(names) > 1 else w.weights[names[0]]

    name = f"layers.{i}.mlp.experts.{'_'.join(which)}_proj.{kind}"
    return w.once(name, lambda: lazy(name, (count, out, *shapes[0][2:]), load))


def _overload(shape: DecoderShape, experts: ExpertSpec) -> str:
    """Which of several bodies these experts have, where layers differ in them."""
    kinds = list(dict.fromkeys(layer.experts for layer in shape.layers if layer.experts is not None))
    return f"kind{kinds.index(experts)}" if len(kinds) > 1 else ""
