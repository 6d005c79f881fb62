"""The draft graph: features in, context cached, one parallel block pass, the sequential head."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from dspark_export.checkpoints import DrafterSpec, Weights
from dspark_export.graphs.decoder import CachedDecoder
from dspark_export.graphs.draft_outputs import base_logits, vocabulary, write_outputs
from dspark_export.graphs.writer import GraphWriter
from dspark_plugins.markov_head import OUTPUTS, MarkovHeadSpec
from dspark_plugins.markov_head.function import markov_head_function

INT64 = ir.DataType.INT64

HEAD_WEIGHTS = {
    "w1": "markov_head.markov_w1.weight",
    "w2": "markov_head.markov_w2.weight",
    "confidence_weight": "confidence_head.proj.weight",
    "confidence_bias": "confidence_head.proj.bias",
}
MIX = {"gated": "gate_proj", "rnn": "joint_proj"}


def head_spec(spec: DrafterSpec) -> MarkovHeadSpec:
    """The op's view of a drafter."""
    return MarkovHeadSpec(
        kind=spec.markov.kind,
        block_size=spec.draft_length,
        rank=spec.markov.rank,
        hidden_size=spec.shape.hidden_size,
        confidence=spec.confidence.enabled,
        confidence_with_markov=spec.confidence.with_markov,
        reduced=bool(spec.draft_vocabulary),
    )


def build_drafter_graph(
    spec: DrafterSpec, weights: Weights, shared: Mapping[str, ir.TensorProtocol], positions: int
) -> ir.Model:
    """Draft graph.

    Inputs: features [M, L*H] of the tokens accepted since the last round, packed by feature_lengths [R];
    used [R] (features cached before); anchor_ids [R]; temperature [R]; uniforms [R, g];
    key_cache.I / value_cache.I [R, Hkv, C, D]. g is how many tokens a block drafts.
    Outputs: draft_ids [R, g], confidence_logits [R, g], draft_logits [R, g, V], the updated caches; without a
    confidence head draft_scores [R, g, 2] too (see `draft_outputs`).
    The anchor stands at position used + feature_lengths: context covers all positions before it, or the last ones in
    layers with a window.
    `shared` holds embed_tokens.weight and lm_head.weight where the checkpoint has none of its own.
    """
    w = GraphWriter("drafter", weights, shared)
    features, lengths = w.input("features", ["M", spec.feature_size]), w.input("feature_lengths", ["R"], INT64)
    used, anchors = w.input("used", ["R"], INT64), w.input("anchor_ids", ["R"], INT64)
    temperature, uniforms = w.input("temperature", ["R"]), w.input("uniforms", ["R", spec.draft_length])
    decoder = CachedDecoder(w, spec.shape, lengths, used, positions, spec.block_size, spec.causal)
    context = w.rms_norm(w.linear(features, "fc.weight"), "hidden_norm.weight", spec.shape.rms_norm_eps)
    x = w.scaled(w.op.Gather(w.weight("embed_tokens.weight"), _block_ids(w, anchors, spec)), spec.embedding_scale)
    for i in range(spec.shape.num_layers):
        x = decoder.layer(i, x, lambda i, normed: _project(decoder, i, normed, context))
    hidden = w.rms_norm(_predicting(w, x, spec), "norm.weight", spec.shape.rms_norm_eps)
    _heads(w, spec, hidden, anchors, temperature, uniforms)
    return w.model()


def _block_ids(w: GraphWriter, anchors: ir.Value, spec: DrafterSpec) -> ir.Value:
    """[anchor, mask, ..., mask] of every row, flattened to [R*block_size]."""
    op = w.op
    if spec.block_size == 1:
        return anchors
    masks = op.Expand(spec.mask_token_id, op.Concat(op.Shape(anchors), [spec.block_size - 1], axis=0))
    return op.Reshape(op.Concat(op.Unsqueeze(anchors, [1]), masks, axis=1), [-1])


def _predicting(w: GraphWriter, x: ir.Value, spec: DrafterSpec) -> ir.Value:
    """Of the states [R*block_size, H] those of positions that predict, [R*g, H]: without a given anchor's."""
    op, size, width = w.op, spec.block_size, spec.shape.hidden_size
    if spec.anchor == "predicts":
        return x
    return op.Reshape(op.Slice(op.Reshape(x, [-1, size, width]), [1], [size], [1]), [-1, width])


def _project(decoder: CachedDecoder, i: int, x: ir.Value, context: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Queries of the block only; keys and values of [context features; block states]."""
    layer = decoder.shape.layers[i]
    query = decoder.linear(i, x, "q", bias=layer.qkv_bias)
    rows = decoder.writer.op.Concat(context, x, axis=0)
    if layer.shared_values:
        key = value = decoder.linear(i, rows, "k", bias=layer.qkv_bias)
    else:
        both = decoder.linear(i, rows, "kv", bias=layer.qkv_bias)
        key, value = decoder.split(both, layer.kv_size, layer.kv_size)
    key, value = decoder.heads_norm(i, "k", key), decoder.values_norm(i, value)
    return decoder.heads_norm(i, "q", query), key, value


def _heads(
    w: GraphWriter,
    spec: DrafterSpec,
    hidden: ir.Value,
    anchors: ir.Value,
    temperature: ir.Value,
    uniforms: ir.Value,
) -> None:
    op, head, g = w.op, head_spec(spec), spec.draft_length
    base = op.Reshape(base_logits(w, spec, hidden), [-1, g, spec.draft_vocab_size])
    by_row = op.Reshape(hidden, [-1, g, spec.shape.hidden_size])
    names = dict(HEAD_WEIGHTS)
    if spec.markov.kind in MIX:
        module = f"markov_head.{MIX[spec.markov.kind]}"
        names |= {"mix_weight": f"{module}.weight", "mix_bias": f"{module}.bias"}
    inputs = [base, anchors, by_row, temperature, uniforms]
    inputs += [w.weight(names[name]) for name in head.inputs()[len(inputs) :] if name in names]
    if head.reduced:
        inputs.append(vocabulary(w, spec))
    results = op.call(markov_head_function(head), *inputs, _outputs=list(OUTPUTS), **head.attributes())
    write_outputs(w, spec, *results)
