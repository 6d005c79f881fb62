"""Gemma 4's inputs for every layer: a second table's rows, and a projection of the embedding."""

from __future__ import annotations

import onnx_ir as ir

from dspark_export.checkpoints import TargetSpec
from dspark_export.graphs.writer import GraphWriter


def per_layer_inputs(w: GraphWriter, spec: TargetSpec, token_ids: ir.Value, x: ir.Value) -> list[ir.Value]:
    """Of tokens [n] and their embedding x [n, H], [n, d] for each layer.

    (row * scale + norm(projection * H ** -0.5)) / sqrt 2, as Gemma 4's text model has it in transformers.
    """
    op, depth = w.op, spec.shape.num_layers
    width = spec.shape.layers[0].per_layer_input
    rows = op.Mul(op.Gather(w.weight("embed_tokens_per_layer.weight"), token_ids), spec.per_layer_scale)
    projected = op.Mul(w.linear(x, "per_layer_model_projection.weight"), spec.shape.hidden_size**-0.5)
    by_layer = op.Reshape(projected, [-1, depth, width])
    normed = w.rms_norm(by_layer, "per_layer_projection_norm.weight", spec.shape.rms_norm_eps)
    both = op.Mul(op.Add(normed, op.Reshape(rows, [-1, depth, width])), 2.0**-0.5)
    parts = [both] if depth == 1 else op.Split(both, axis=1, num_outputs=depth, _outputs=depth)
    return [op.Squeeze(part, [1]) for part in parts]
