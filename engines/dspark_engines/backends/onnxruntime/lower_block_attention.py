"""The drafter's attention for ONNX Runtime's CPU provider.

`BlockAttention` cannot use the `GroupQueryAttention` of `lower_attention`, which is causal over the context too,
but needs no mask for that: every block token sees the same part of it. So new keys are scattered in behind the
used part, what is seen is sliced off the cache, and two matrix products do the rest; only a causal block has a
mask, over its own keys. These land past the context's end, where the next round overwrites them.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from dspark_engines.backends.onnxruntime.lower_attention import finish, node_inputs
from dspark_engines.backends.onnxruntime.rewriting import Lowering
from dspark_engines.backends.onnxruntime.step_rows import StepRows
from dspark_plugins.attention import AttentionSpec


class _Seen(NamedTuple):
    """Cells of a row's cache that its block sees, from `start` to `stop`; at `end` the block begins. [1] int64 each."""

    start: ir.Value
    end: ir.Value
    stop: ir.Value


def lower_block_attention(low: Lowering, node: ir.Node, spec: AttentionSpec) -> None:
    """Replace a `dspark::BlockAttention` node."""
    query, key, value, lengths, used, cos, sin, *stacked = node_inputs(node)
    keys, values, rows = low.slot_caches(stacked[0]), low.slot_caches(stacked[1]), low.step_rows(lengths, used)
    q_angles, k_angles = low.once(
        f"block angles {cos.name}", lambda: _block_angles(low, rows, spec.block_size, cos, sin)
    )
    q = _rotate(low, query, q_angles, spec.num_heads)
    k = _rotate(low, key, k_angles, spec.num_kv_heads)
    q_rows = rows.per_row(low.op.Reshape(q, [low.slots, spec.block_size, spec.num_heads * spec.head_dim]))
    k_rows, v_rows = _new_cells(low, rows, k, spec), _new_cells(low, rows, value, spec)
    outputs, new_keys, new_values = [], [], []
    for slot in range(low.slots):
        seen = low.once(f"seen {slot} {spec.window}", partial(_seen, low, rows, slot, spec))
        new_keys.append(_scatter(low, keys[slot], k_rows[slot], rows.used_rows[slot]))
        new_values.append(_scatter(low, values[slot], v_rows[slot], rows.used_rows[slot]))
        visible = [low.op.Slice(cache[-1], seen.start, seen.stop, [2]) for cache in (new_keys, new_values)]
        outputs.append(_attend(low, q_rows[slot], visible[0], visible[1], _future(low, slot, seen, spec), spec))
    finish(low, node, low.join_rows(outputs), stacked[:2], new_keys, new_values)


def _block_angles(
    low: Lowering, rows: StepRows, block: int, cos: ir.Value, sin: ir.Value
) -> tuple[list[ir.Value], list[ir.Value]]:
    """(cos, sin) [1, n, D/2] of the queries, and of the keys: all contexts, then all blocks.

    Gathered, since with position ids the kernel wants no more packed tokens than the tables have rows.
    """
    op, contexts, blocks = low.op, [], []
    for used, end in zip(rows.used_rows, rows.end_rows, strict=True):
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


def _new_cells(low: Lowering, rows: StepRows, x: ir.Value, spec: AttentionSpec) -> list[ir.Value]:
    """Packed [M + R*block, Hkv*D] to one [1, Hkv, n, D] per slot: its context, then its block."""
    op = low.op
    if low.slots > 1:
        blocks = op.Expand(spec.block_size, [low.slots])
        sizes = op.Concat(rows.lengths, blocks, axis=0)
        parts = op.Split(x, sizes, axis=0, _outputs=2 * low.slots)
        cells = [op.Concat(parts[slot], parts[low.slots + slot], axis=0) for slot in range(low.slots)]
    else:
        cells = [x]
    shape = [1, -1, spec.num_kv_heads, spec.head_dim]
    return [op.Transpose(op.Reshape(row, shape), perm=[0, 2, 1, 3]) for row in cells]


def _scatter(low: Lowering, cache: ir.Value, cells: ir.Value, used: ir.Value) -> ir.Value:
    return low.op.TensorScatter(cache, cells, used, axis=2)


def _seen(low: Lowering, rows: StepRows, slot: int, spec: AttentionSpec) -> _Seen:
    """What one row's block sees of the cache: the context or the end of it, and the block behind it."""
    end = rows.end_rows[slot]
    start = low.op.Max(low.op.Sub(end, spec.window), [0]) if spec.window else low.op.Constant(value_ints=[0])
    return _Seen(start, end, low.op.Add(end, spec.block_size))


def _future(low: Lowering, slot: int, seen: _Seen, spec: AttentionSpec) -> ir.Value | None:
    """What is added to the scores [group*block, t] of a causal block: -inf for its tokens behind the query's own."""
    if not spec.causal:
        return None
    group = spec.num_heads // spec.num_kv_heads
    own = np.triu(np.full((spec.block_size, spec.block_size), -np.inf, np.float32), 1)

    def mask() -> ir.Value:
        pads = low.op.Concat([0], low.op.Sub(seen.end, seen.start), [0, 0], axis=0)
        return low.op.Pad(low.op.Constant(value=ir.tensor(np.tile(own, (group, 1)))), pads)

    return low.once(f"future {slot} {group} {spec.window}", mask)


def _attend(
    low: Lowering, q: ir.Value, keys: ir.Value, values: ir.Value, future: ir.Value | None, spec: AttentionSpec
) -> ir.Value:
    """q [1, block, Hq*D] over keys and values [1, Hkv, t, D]; a group of heads shares one product."""
    op, kv, block, width = low.op, spec.num_kv_heads, spec.block_size, spec.head_dim
    group = spec.num_heads // kv
    by_group = op.Transpose(op.Reshape(q, [block, kv, group, width]), perm=[1, 2, 0, 3])
    queries = op.Mul(op.Reshape(by_group, [1, kv, group * block, width]), spec.factor)
    scores = op.MatMul(queries, op.Transpose(keys, perm=[0, 1, 3, 2]))
    if spec.softcap:
        scores = op.Mul(op.Tanh(op.Div(scores, spec.softcap)), spec.softcap)
    if future is not None:
        scores = op.Add(scores, future)
    weights = op.Softmax(scores, axis=-1)
    mixed = op.Reshape(op.MatMul(weights, values), [kv, group, block, width])
    return op.Reshape(op.Transpose(mixed, perm=[2, 0, 1, 3]), [block, spec.num_heads * width])
