"""Query, key and value of tokens that attend to themselves and what is before them."""

from __future__ import annotations

import onnx_ir as ir

from dspark_export.graphs.decoder import CachedDecoder

Kept = dict[int, tuple[ir.Value, ir.Value]]
"""Keys and values by layer."""


def project_self(
    decoder: CachedDecoder, i: int, x: ir.Value, kept: Kept | None = None
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Query, key and value of layer i; the last two of every layer are `kept` for those that take them over."""
    kept = {} if kept is None else kept
    layer = decoder.shape.layers[i]
    if layer.keys_from is not None:
        query = decoder.linear(i, x, "q", bias=layer.qkv_bias)
        return decoder.heads_norm(i, "q", query), *kept[layer.keys_from]
    if layer.shared_values:
        query, key = decoder.split(decoder.linear(i, x, "qk", bias=layer.qkv_bias), layer.query_size, layer.kv_size)
        value = key
    else:
        fused = decoder.linear(i, x, "qkv", bias=layer.qkv_bias)
        query, key, value = decoder.split(fused, layer.query_size, layer.kv_size, layer.kv_size)
    kept[i] = decoder.heads_norm(i, "k", key), decoder.values_norm(i, value)
    return decoder.heads_norm(i, "q", query), *kept[i]
