"""A mixture of experts in a graph: the router in standard ops, and `dspark::ExpertMlp`."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dspark_export.checkpoints import DecoderShape, ExpertSpec, LayerSpec
from dspark_export.checkpoints.tensors import Array
from dspark_export.graphs.writer import GraphWriter, lazy
from dspark_plugins.expert_mlp import ExpertMlpSpec
from dspark_plugins.expert_mlp.function import expert_mlp_function


def expert_mlp(w: GraphWriter, shape: DecoderShape, i: int, x: ir.Value) -> ir.Value:
    """The experts that are layer i's MLP on its normed states x, [n, H] -> [n, H]."""
    experts = shape.layers[i].experts
    assert experts is not None, "the layer has experts"
    scores = w.linear(x, f"layers.{i}.mlp.router.weight", bias=experts.biased)
    return _run(w, shape, i, x, *_route(w, experts, scores), prefix=f"layers.{i}.mlp")


def parallel_experts(w: GraphWriter, shape: DecoderShape, i: int, x: ir.Value) -> ir.Value:
    """The experts beside layer i's MLP on its states x, [n, H] -> [n, H], between norms of their own (Gemma 4)."""
    op, experts, epsilon = w.op, shape.layers[i].experts, shape.rms_norm_eps
    assert experts is not None, "the layer has experts"
    seen = op.RMSNormalization(x, _router_gain(w, i), axis=-1, epsilon=epsilon)
    shares, chosen = _route(w, experts, w.linear(seen, f"layers.{i}.router.proj.weight"))
    shares = op.Mul(shares, op.Gather(w.weight(f"layers.{i}.router.per_expert_scale"), chosen))
    normed = w.rms_norm(x, f"layers.{i}.pre_feedforward_layernorm_2.weight", epsilon)
    y = _run(w, shape, i, normed, shares, chosen, prefix=f"layers.{i}")
    return w.rms_norm(y, f"layers.{i}.post_feedforward_layernorm_2.weight", epsilon)


def _router_gain(w: GraphWriter, i: int) -> ir.Value:
    """The router's scale times H ** -0.5, [H]: a norm without a gain and what follows it are one norm with this."""
    name = f"layers.{i}.router.scale"
    (hidden,) = w.weights.shapes[name]
    return w.once(name, lambda: lazy(name, (hidden,), lambda: w.weights[name] * np.float32(hidden**-0.5)))


def _route(w: GraphWriter, experts: ExpertSpec, scores: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Shares and numbers of the experts of every token, [n, k] each, by the router's scores [n, E]."""
    op, k = w.op, [experts.per_token]
    if experts.renormalised:
        best, chosen = op.TopK(scores, k, axis=-1, _outputs=2)
        return op.Softmax(best, axis=-1), chosen
    shares, chosen = op.TopK(op.Softmax(scores, axis=-1), k, axis=-1, _outputs=2)
    return shares, chosen


def _run(
    w: GraphWriter, shape: DecoderShape, i: int, x: ir.Value, shares: ir.Value, chosen: ir.Value, *, prefix: str
) -> ir.Value:
    """The op on x [n, H], with the stacks `PREFIX.experts.…` of layer i."""
    stem, spec = f"{prefix}.experts", _spec(shape.layers[i])
    weights = [_stack(w, stem, ("gate", "up"), "weight"), _stack(w, stem, ("down",), "weight")]
    if spec.biased:
        weights += [_stack(w, stem, ("gate", "up"), "bias"), _stack(w, stem, ("down",), "bias")]
    call, name = expert_mlp_function(spec, _overload(shape, spec)), f"layers.{i}.mlp.output"
    y: ir.Value = w.op.call(call, x, shares, chosen, *weights, _outputs=[name], **spec.attributes())
    y.shape, y.dtype = ir.Shape(["N", shape.hidden_size]), ir.DataType.FLOAT
    return y


def _spec(layer: LayerSpec) -> ExpertMlpSpec:
    """What the op does in a layer with experts."""
    experts = layer.experts
    assert experts is not None, "the layer has experts"
    return ExpertMlpSpec(
        biased=experts.biased,
        alpha=experts.alpha,
        limit=experts.limit,
        up_offset=experts.up_offset,
        activation=layer.activation,
    )


def _stack(w: GraphWriter, stem: str, which: tuple[str, ...], kind: str) -> ir.Value:
    """Weights [E, out, in], or biases [E, out], of the projections `which` of `stem` side by side."""
    names = [f"{stem}.{one}_proj.{kind}" for one in which]
    shapes = [w.weights.shapes[name] for name in names]
    count, out = shapes[0][0], sum(shape[1] for shape in shapes)

    def load() -> Array:
        return np.concatenate([w.weights[name] for name in names], axis=1) if len(names) > 1 else w.weights[names[0]]

    name = f"{stem}.{'_'.join(which)}_proj.{kind}"
    return w.once(name, lambda: lazy(name, (count, out, *shapes[0][2:]), load))


def _overload(shape: DecoderShape, spec: ExpertMlpSpec) -> str:
    """Which of several bodies these experts have, where layers differ in them."""
    kinds = list(dict.fromkeys(_spec(layer) for layer in shape.layers if layer.experts is not None))
    return f"kind{kinds.index(spec)}" if len(kinds) > 1 else ""
