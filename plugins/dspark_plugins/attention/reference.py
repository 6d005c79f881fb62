"""NumPy oracle of both attention ops: one row, one head at a time, straight from the contract."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dspark_plugins.arrays import Ints
from dspark_plugins.attention.contract import AttentionSpec

Array = npt.NDArray[np.float32]


class AttentionResult(NamedTuple):
    """Output [N, Hq*D] and the updated caches (new arrays)."""

    output: Array
    key_cache: Array
    value_cache: Array


def rotate(x: Array, positions: Ints, cos: Array, sin: Array) -> Array:
    """Rotary embedding of x [n, heads, D] at positions [n], "rotate half" layout."""
    c, s = cos[positions][:, None, :], sin[positions][:, None, :]
    a, b = np.split(x, 2, axis=-1)
    return np.concatenate([a * c - b * s, b * c + a * s], axis=-1)


def cached_attention(
    spec: AttentionSpec,
    query: Array,
    key: Array,
    value: Array,
    row_lengths: Ints,
    used: Ints,
    cos: Array,
    sin: Array,
    key_cache: Array,
    value_cache: Array,
    sinks: Array | None = None,
) -> AttentionResult:
    """`dspark::CachedAttention`."""
    keys, values, outputs, start = key_cache.copy(), value_cache.copy(), [], 0
    for row, length in enumerate(row_lengths):
        part = slice(start, start + length)
        positions = np.arange(used[row], used[row] + length)
        q = rotate(_heads(query[part], spec.num_heads), positions, cos, sin)
        keys[row][:, positions] = rotate(_heads(key[part], spec.num_kv_heads), positions, cos, sin).swapaxes(0, 1)
        values[row][:, positions] = _heads(value[part], spec.num_kv_heads).swapaxes(0, 1)
        distance = positions[:, None] - np.arange(used[row] + length)[None, :]
        visible = (distance >= 0) & (distance < (spec.window or np.inf))
        end = used[row] + length
        outputs.append(_attend(spec, q, keys[row][:, :end], values[row][:, :end], visible, sinks))
        start += length
    return AttentionResult(np.concatenate(outputs), keys, values)


def block_attention(
    spec: AttentionSpec,
    query: Array,
    key: Array,
    value: Array,
    row_lengths: Ints,
    used: Ints,
    cos: Array,
    sin: Array,
    key_cache: Array,
    value_cache: Array,
) -> AttentionResult:
    """`dspark::BlockAttention`."""
    keys, values, outputs, start = key_cache.copy(), value_cache.copy(), [], 0
    total, block = int(row_lengths.sum()), spec.block_size
    for row, length in enumerate(row_lengths):
        context, mine = slice(start, start + length), slice(total + row * block, total + (row + 1) * block)
        old, end = int(used[row]), int(used[row] + length)
        positions, block_positions = np.arange(old, end), np.arange(end, end + block)
        kv = spec.num_kv_heads
        keys[row][:, positions] = rotate(_heads(key[context], kv), positions, cos, sin).swapaxes(0, 1)
        values[row][:, positions] = _heads(value[context], kv).swapaxes(0, 1)
        block_keys = rotate(_heads(key[mine], kv), block_positions, cos, sin).swapaxes(0, 1)
        all_keys = np.concatenate([keys[row][:, :end], block_keys], axis=1)
        all_values = np.concatenate([values[row][:, :end], _heads(value[mine], kv).swapaxes(0, 1)], axis=1)
        q = _heads(query[row * block : (row + 1) * block], spec.num_heads)
        visible = _visible_in_block(spec, end)
        outputs.append(_attend(spec, rotate(q, block_positions, cos, sin), all_keys, all_values, visible))
        start += length
    return AttentionResult(np.concatenate(outputs), keys, values)


def _visible_in_block(spec: AttentionSpec, end: int) -> npt.NDArray[np.bool_]:
    """[block, end + block]: what a block behind `end` cells of context sees of these, and of itself."""
    cells, block = np.arange(end + spec.block_size), np.arange(spec.block_size)
    first = end - spec.window if spec.window else 0
    last = end + block if spec.causal else np.full_like(block, end + spec.block_size)
    return np.asarray((cells >= first)[None, :] & (cells[None, :] <= last[:, None]))


def _heads(x: Array, heads: int) -> Array:
    return x.reshape(x.shape[0], heads, x.shape[1] // heads)  # -1 would be ambiguous for no tokens


def _attend(
    spec: AttentionSpec,
    q: Array,
    keys: Array,
    values: Array,
    visible: npt.NDArray[np.bool_],
    sinks: Array | None = None,
) -> Array:
    """q [n, Hq, D], keys/values [Hkv, c, D], visible [n, c] -> [n, Hq*D]."""
    group = q.shape[1] // keys.shape[0]
    out = np.empty_like(q)
    for head in range(q.shape[1]):
        scores = q[:, head] @ keys[head // group].T * np.float32(spec.factor)
        scores = spec.softcap * np.tanh(scores / spec.softcap) if spec.softcap else scores
        scores = np.where(visible, scores, -np.inf)
        sink = np.full((len(q), 1), -np.inf if sinks is None else sinks[head], np.float32)
        scores = np.concatenate([scores, sink], axis=1)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        out[:, head] = (weights / weights.sum(axis=-1, keepdims=True))[:, :-1] @ values[head // group]
    return out.reshape(q.shape[0], -1)
