"""Attention for TensorRT: TensorScatter into the cache, then one masked Attention over padded rows.

TensorRT's parser makes KV_CACHE_UPDATE of the first, which works in place when input and output are bound to one
buffer, and a native attention of the second. It drops `nonpad_kv_seqlen` without a word (TensorRT-RTX 1.7), and
anchors causal masks at the upper left; so the mask says it all, and `building.network` gives the lengths back as a
hint of how much of the cache is worth reading.
"""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir

from dspark_engines.backends.padded.lowering.rewriting import PaddedLowering
from dspark_engines.errors import BackendError
from dspark_plugins.attention import BLOCK_ATTENTION, CACHED_ATTENTION, AttentionSpec


class _Inputs(NamedTuple):
    """The node's inputs, by the contract's names."""

    query: ir.Value
    key: ir.Value
    value: ir.Value
    cos: ir.Value
    sin: ir.Value
    key_cache: ir.Value
    value_cache: ir.Value


def lower_cached_attention(low: PaddedLowering, node: ir.Node, spec: AttentionSpec) -> None:
    """Replace a `dspark::CachedAttention` node."""
    given = _inputs(node)
    q_angles = low.once(f"angles {given.cos.name}", lambda: _angles(low, given, low.input("positions", ["N"])))
    q, k = (_rotate(low, x, q_angles, n) for x, n in ((given.query, spec.num_heads), (given.key, spec.num_kv_heads)))
    pad = low.input("pad_rows", ["R", "S"])
    mask = low.once(f"mask {spec.window}", lambda: _causal_mask(low, given.key_cache, pad, spec.window))
    queries = _heads(low, low.op.Gather(q, pad), spec.num_heads, spec.head_dim)
    output, *caches = _attend(low, queries, k, given, mask, spec)
    rows = low.op.Reshape(output, [-1, spec.num_heads * spec.head_dim])
    low.replace(node, low.op.Gather(rows, low.input("unpad", ["N"])), *caches)


def lower_block_attention(low: PaddedLowering, node: ir.Node, spec: AttentionSpec) -> None:
    """Replace a `dspark::BlockAttention` node; the block's cells are overwritten by the next round's context."""
    given, width = _inputs(node), spec.num_heads * spec.head_dim
    k_angles = low.once(f"angles {given.cos.name}", lambda: _angles(low, given, low.input("positions", ["M+R*g"])))
    at = low.input("block_positions", ["R*g"])
    q_angles = low.once(f"block angles {given.cos.name}", lambda: _angles(low, given, at))
    q, k = _rotate(low, given.query, q_angles, spec.num_heads), _rotate(low, given.key, k_angles, spec.num_kv_heads)
    mask = low.once(f"mask {spec.window} {spec.causal}", lambda: _block_mask(low, given.key_cache, spec))
    by_row = low.op.Reshape(q, [-1, spec.block_size, width])
    queries = _heads(low, by_row, spec.num_heads, spec.head_dim)
    output, *caches = _attend(low, queries, k, given, mask, spec)
    low.replace(node, low.op.Reshape(output, [-1, width]), *caches)


LOWERINGS = {CACHED_ATTENTION: lower_cached_attention, BLOCK_ATTENTION: lower_block_attention}


def _inputs(node: ir.Node) -> _Inputs:
    values = [value for value in node.inputs if value is not None]  # none of them is optional
    return _Inputs(*values[:3], *values[5:])


def _angles(low: PaddedLowering, given: _Inputs, positions: ir.Value) -> list[ir.Value]:
    """cos and sin [1, n, D/2] at positions [n]."""
    return [low.op.Unsqueeze(low.op.Gather(table, positions), [0]) for table in (given.cos, given.sin)]


def _rotate(low: PaddedLowering, x: ir.Value, angles: list[ir.Value], heads: int) -> ir.Value:
    rotated = low.op.RotaryEmbedding(low.op.Unsqueeze(x, [0]), *angles, num_heads=heads)
    return low.op.Squeeze(rotated, [0])


def _heads(low: PaddedLowering, rows: ir.Value, heads: int, width: int) -> ir.Value:
    """[R, S, heads*D] -> [R, heads, S, D]."""
    return low.op.Transpose(low.op.Reshape(rows, [0, 0, heads, width]), perm=[0, 2, 1, 3])


def _cells(low: PaddedLowering, cache: ir.Value) -> ir.Value:
    """0 .. C-1 as [1, 1, 1, C]."""
    assert cache.shape is not None, "the lowered graph's caches have a fixed capacity"
    capacity = cache.shape[2]
    assert isinstance(capacity, int), "the lowered graph's caches have a fixed capacity"
    return low.op.Constant(value=ir.tensor([[[list(range(capacity))]]], dtype=ir.DataType.INT64))


def _causal_mask(low: PaddedLowering, cache: ir.Value, pad: ir.Value, window: int) -> ir.Value:
    """[R, 1, S, C]: query i of a row sees the cells up to visible - S + i (the last `window` of these, if there is
    one), and always the first."""
    op, visible = low.op, low.input("visible", ["R"])
    width = op.Shape(pad, start=1, end=2)
    offsets = op.Sub(op.Range(0, op.Squeeze(width, [0]), 1), width)  # -S .. -1
    last = op.Max(op.Add(op.Unsqueeze(visible, [1]), op.Unsqueeze(offsets, [0])), 0)
    cells, last = _cells(low, cache), op.Unsqueeze(last, [1, 3])
    seen = op.LessOrEqual(cells, last)
    return op.And(seen, op.Greater(cells, op.Sub(last, window))) if window else seen


def _block_mask(low: PaddedLowering, cache: ir.Value, spec: AttentionSpec) -> ir.Value:
    """[R, 1, g, C]: what the block sees of the row's context and of itself, which lie side by side; with nothing to
    see always the first cell."""
    op, block, cells = low.op, spec.block_size, _cells(low, cache)
    visible = op.Unsqueeze(low.input("visible", ["R"]), [1, 2, 3])
    seen = op.Less(cells, visible)
    if spec.window:
        seen = op.And(seen, op.GreaterOrEqual(cells, op.Sub(visible, block + spec.window)))
    if not spec.causal:
        return op.Expand(seen, [1, 1, block, 1])
    offsets = ir.tensor([[[[j - block] for j in range(block)]]], dtype=ir.DataType.INT64)
    last = op.Max(op.Add(visible, op.Constant(value=offsets)), 0)
    return op.And(seen, op.LessOrEqual(cells, last))


def check_scores(spec: AttentionSpec) -> None:
    """Raises `BackendError` for sinks, and for a softcap, which TensorRT's parser may drop without a word."""
    if spec.sinks:
        raise BackendError(
            "this target's heads have attention sinks, which GPU backends cannot yet",
            hint="--backend onnxruntime runs it",
        )
    if spec.softcap:
        raise BackendError(
            f"this target bounds its attention scores (softcap {spec.softcap:g}), which GPU backends cannot yet",
            hint="--backend onnxruntime runs it",
        )


def _attend(
    low: PaddedLowering, queries: ir.Value, key: ir.Value, given: _Inputs, mask: ir.Value, spec: AttentionSpec
) -> list[ir.Value]:
    """[output [R, S, Hq, D], key cache, value cache] of queries [R, Hq, S, D] and packed new keys and values."""
    op, pad, used = low.op, low.input("pad_rows", ["R", "S"]), low.input("used", ["R"])
    caches = []
    for cache, x in ((given.key_cache, key), (given.value_cache, given.value)):
        cells = _heads(low, op.Gather(x, pad), spec.num_kv_heads, spec.head_dim)
        caches.append(op.TensorScatter(cache, cells, used, axis=2))
    visible = low.input("visible", ["R"])
    output = op.Attention(queries, *caches, mask, None, None, visible, scale=spec.factor)
    return [op.Transpose(output, perm=[0, 2, 1, 3]), *caches]
