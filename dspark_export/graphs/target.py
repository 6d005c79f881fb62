"""The verify graph: the target over packed new tokens of R rows, with caches and feature taps."""

from __future__ import annotations

import onnx_ir as ir

from dspark_export.checkpoints import TargetSpec, Weights
from dspark_export.graphs.decoder import CachedDecoder
from dspark_export.graphs.layer_inputs import per_layer_inputs
from dspark_export.graphs.projection import Kept, project_self
from dspark_export.graphs.writer import GraphWriter

INT64 = ir.DataType.INT64


def build_target_graph(spec: TargetSpec, weights: Weights, taps: tuple[int, ...], positions: int) -> ir.Model:
    """Verify graph (and prefill, in chunks).

    Inputs: token_ids [N], row_lengths [R] (sum N), used [R] (cached tokens before this step),
    logit_rows [K] (which of the N tokens need logits), key_cache.I / value_cache.I [R, Hkv, C, D].
    Outputs: logits [K, V], features [N, L*H] (the taps, packed like the tokens), the updated caches. Tap k is the
    output of layer k, -1 the embedding, and num_layers the last layer's output behind the final norm.
    `positions` is the longest position plus one that the rotary tables cover.
    """
    w = GraphWriter("target", weights)
    token_ids, lengths = w.input("token_ids", ["N"], INT64), w.input("row_lengths", ["R"], INT64)
    used, logit_rows = w.input("used", ["R"], INT64), w.input("logit_rows", ["K"], INT64)
    decoder = CachedDecoder(w, spec.shape, lengths, used, positions)
    x = w.scaled(w.op.Gather(w.weight("embed_tokens.weight"), token_ids), spec.embedding_scale)
    states: dict[int, ir.Value] = {-1: x}
    kept: Kept = {}
    if spec.shape.layers[0].per_layer_input:
        decoder.per_layer_inputs = per_layer_inputs(w, spec, token_ids, x)
    for i in range(spec.shape.num_layers):
        x = decoder.layer(i, x, lambda i, normed: project_self(decoder, i, normed, kept))
        states[i] = x
    if spec.shape.num_layers in taps:  # not of the logits' rows: whoever taps it, they stay the same numbers
        states[spec.shape.num_layers] = w.rms_norm(x, "norm.weight", spec.shape.rms_norm_eps)
    normed = w.rms_norm(w.op.Gather(x, logit_rows), "norm.weight", spec.shape.rms_norm_eps)
    head = "embed_tokens.weight" if spec.tied_embeddings else "lm_head.weight"
    logits = w.softcap(w.op.Gemm(normed, w.weight(head), transB=1), spec.logit_softcap)
    w.output(logits, "logits", ["K", spec.vocab_size])
    features = w.op.Concat(*(states[tap] for tap in taps), axis=-1) if taps else w.op.Slice(x, [0], [0], [1])
    w.output(features, "features", ["N", len(taps) * spec.shape.hidden_size])
    return w.model()
