"""Attention for ONNX Runtime's CPU provider: what design measurements showed to be fast there.

`CachedAttention` becomes one `GroupQueryAttention` per slot (rotary inside, caches updated in place when
input and output are bound to one buffer; with a past and several new tokens it takes one row only). It computes
one new token with other kernels than several, which differ in the last bits: where a token's result must not
depend on how many it came with, a single one is padded to two. The second one's cache cell lies behind what is used.

`BlockAttention` cannot use it (it is causal), but needs no mask at all: every block token sees the whole
context and the whole block. So new keys are scattered in behind the used part, that much of the cache is
sliced off, and two matrix products do the rest. The block's own keys land past the context's end, where
the next round overwrites them.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from dspark_engines.backends.onnxruntime.rewriting import MICROSOFT, Lowering
from dspark_plugins.attention import AttentionSpec

HEAD_DIM_MULTIPLE = 16  # what GroupQueryAttention's rotary kernel asks for


def lower_cached_attention(low: Lowering, node: ir.Node, spec: AttentionSpec) -> None:
    """Replace a `dspark::CachedAttention` node."""
    query, key, value, _, _, cos, sin, *stacked = _inputs(node)
    keys, values = low.slot_caches(stacked[0]), low.slot_caches(stacked[1])
    rows = _query_rows(low, query, key, value)
    outputs, new_keys, new_values = [], [], []
    for slot, qkv in enumerate(rows):
        out, new_key, new_value = low.op.GroupQueryAttention(
            *qkv,
            keys[slot],
            values[slot],
            low.last_rows[slot],
            low.total_rows[slot],
            cos,
            sin,
            *([None, None, stacked[2]] if spec.sinks else []),
            num_heads=spec.num_heads,
            kv_num_heads=spec.num_kv_heads,
            scale=spec.factor,
            do_rotary=1,
            **_optional(spec),
            _domain=MICROSOFT,
            _version=1,
            _outputs=3,
        )
        outputs.append(_unpadded(low, slot, out))
        new_keys.append(new_key)
        new_values.append(new_value)
    _finish(low, node, low.join_rows(outputs), new_keys, new_values)


def lower_block_attention(low: Lowering, node: ir.Node, spec: AttentionSpec) -> None:
    """Replace a `dspark::BlockAttention` node."""
    query, key, value, _, _, cos, sin, *stacked = _inputs(node)
    keys, values = low.slot_caches(stacked[0]), low.slot_caches(stacked[1])
    q_angles, k_angles = low.once(f"block angles {cos.name}", lambda: _block_angles(low, spec.block_size, cos, sin))
    q = _rotate(low, query, q_angles, spec.num_heads)
    k = _rotate(low, key, k_angles, spec.num_kv_heads)
    q_rows = low.per_row(low.op.Reshape(q, [low.slots, spec.block_size, spec.num_heads * spec.head_dim]))
    k_rows, v_rows = _new_cells(low, k, spec), _new_cells(low, value, spec)
    outputs, new_keys, new_values = [], [], []
    for slot in range(low.slots):
        stop = low.op.Add(low.end_rows[slot], spec.block_size)
        new_keys.append(_scatter(low, keys[slot], k_rows[slot], slot))
        new_values.append(_scatter(low, values[slot], v_rows[slot], slot))
        visible = [low.op.Slice(cache[-1], [0], stop, [2]) for cache in (new_keys, new_values)]
        outputs.append(_attend(low, q_rows[slot], visible[0], visible[1], spec))
    _finish(low, node, low.join_rows(outputs), new_keys, new_values)


def _optional(spec: AttentionSpec) -> dict[str, int | float]:
    """The kernel's attributes for what most models do without."""
    values = {"local_window_size": spec.window, "softcap": spec.softcap}
    return {name: value for name, value in values.items() if value}


def _inputs(node: ir.Node) -> list[ir.Value]:
    """The node's inputs; sinks are last, where the op has them."""
    return [value for value in node.inputs if value is not None]


def _query_rows(low: Lowering, query: ir.Value, key: ir.Value, value: ir.Value) -> list[list[ir.Value | None]]:
    """Per slot the first three inputs of GroupQueryAttention; a fused projection is passed as it is."""
    producer = query.producer()
    fused = producer is not None and producer.op_type == "Split"
    if fused and producer is not None and tuple(producer.outputs) == (query, key, value):
        packed = producer.inputs[0]
        assert packed is not None
        return [[row, None, None] for row in _padded(low, packed)]
    return [list(rows) for rows in zip(*(_padded(low, x) for x in (query, key, value)), strict=True)]


def _padded(low: Lowering, x: ir.Value) -> list[ir.Value]:
    """Every slot's rows [1, n, W] of a packed input; where single rows are padded, at least two of them."""
    rows = low.split_rows(x)
    if low.pad_single_rows:
        rows = [low.op.Pad(row, pads) for row, pads in zip(rows, low.row_pads, strict=True)]
    return [low.op.Unsqueeze(row, [0]) for row in rows]


def _unpadded(low: Lowering, slot: int, output: ir.Value) -> ir.Value:
    """Attention's output [1, n, W] without the padding, [n, W]."""
    rows = low.op.Squeeze(output, [0])
    return low.op.Slice(rows, [0], low.length_rows[slot], [0]) if low.pad_single_rows else rows


def _block_angles(low: Lowering, block: int, cos: ir.Value, sin: ir.Value) -> tuple[list[ir.Value], list[ir.Value]]:
    """(cos, sin) [1, n, D/2] of the queries, and of the keys: all contexts, then all blocks.

    Gathered, since with position ids the kernel wants no more packed tokens than the tables have rows.
    """
    op, contexts, blocks = low.op, [], []
    for used, end in zip(low.used_rows, low.end_rows, strict=True):
        start, middle = op.Squeeze(used, [0]), op.Squeeze(end, [0])
        contexts.append(op.Range(start, middle, 1))
        blocks.append(op.Range(middle, op.Add(middle, block), 1))
    queries, keys = low.join_rows(blocks), op.Concat(*contexts, *blocks, axis=0)

    def angles(positions: ir.Value) -> list[ir.Value]:
        return [op.Unsqueeze(op.Gather(table, positions), [0]) for table in (cos, sin)]

    return angles(queries), angles(keys)


def _rotate(low: Lowering, x: ir.Value, angles: list[ir.Value], heads: int) -> ir.Value:
    rotated = low.op.RotaryEmbedding(low.op.Unsqueeze(x, [0]), *angles, num_heads=heads)
    return low.op.Squeeze(rotated, [0])


def _new_cells(low: Lowering, x: ir.Value, spec: AttentionSpec) -> list[ir.Value]:
    """Packed [M + R*block, Hkv*D] to one [1, Hkv, n, D] per slot: its context, then its block."""
    op = low.op
    if low.slots > 1:
        blocks = op.Expand(spec.block_size, [low.slots])
        sizes = op.Concat(low.lengths, blocks, axis=0)
        parts = op.Split(x, sizes, axis=0, _outputs=2 * low.slots)
        rows = [op.Concat(parts[slot], parts[low.slots + slot], axis=0) for slot in range(low.slots)]
    else:
        rows = [x]
    shape = [1, -1, spec.num_kv_heads, spec.head_dim]
    return [op.Transpose(op.Reshape(row, shape), perm=[0, 2, 1, 3]) for row in rows]


def _scatter(low: Lowering, cache: ir.Value, cells: ir.Value, slot: int) -> ir.Value:
    return low.op.TensorScatter(cache, cells, low.used_rows[slot], axis=2)


def _attend(low: Lowering, q: ir.Value, keys: ir.Value, values: ir.Value, spec: AttentionSpec) -> ir.Value:
    """q [1, block, Hq*D] over keys and values [1, Hkv, t, D]; a group of heads shares one product."""
    op, kv, block, width = low.op, spec.num_kv_heads, spec.block_size, spec.head_dim
    group = spec.num_heads // kv
    by_group = op.Transpose(op.Reshape(q, [block, kv, group, width]), perm=[1, 2, 0, 3])
    queries = op.Mul(op.Reshape(by_group, [1, kv, group * block, width]), spec.factor)
    scores = op.MatMul(queries, op.Transpose(keys, perm=[0, 1, 3, 2]))
    if spec.softcap:
        scores = op.Mul(op.Tanh(op.Div(scores, spec.softcap)), spec.softcap)
    weights = op.Softmax(scores, axis=-1)
    mixed = op.Reshape(op.MatMul(weights, values), [kv, group, block, width])
    return op.Reshape(op.Transpose(mixed, perm=[2, 0, 1, 3]), [block, spec.num_heads * width])


def _finish(
    low: Lowering, node: ir.Node, output: ir.Value, keys: Sequence[ir.Value], values: Sequence[ir.Value]
) -> None:
    output.shape, output.type = node.outputs[0].shape, node.outputs[0].type
    low.replace(node, output)
    low.slot_outputs(node.outputs[1], keys)
    low.slot_outputs(node.outputs[2], values)
