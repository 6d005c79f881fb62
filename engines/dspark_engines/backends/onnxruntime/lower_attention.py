"""The target's attention for ONNX Runtime's CPU provider: what measurements showed to be fast there.

`CachedAttention` becomes one `GroupQueryAttention` per slot (rotary inside, caches updated in place when
input and output are bound to one buffer; with a past and several new tokens it takes one row only). It computes
one new token with other kernels than several, which differ in the last bits: where a token's result must not
depend on how many it came with, a single one is padded to two. The second one's cache cell lies behind what is used.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from dspark_engines.backends.onnxruntime.rewriting import MICROSOFT, Lowering
from dspark_engines.backends.onnxruntime.step_rows import StepRows
from dspark_plugins.attention import AttentionSpec

HEAD_DIM_MULTIPLE = 16  # what GroupQueryAttention's rotary kernel asks for


def lower_cached_attention(low: Lowering, node: ir.Node, spec: AttentionSpec) -> None:
    """Replace a `dspark::CachedAttention` node."""
    query, key, value, lengths, used, cos, sin, *stacked = node_inputs(node)
    keys, values = low.slot_caches(stacked[0]), low.slot_caches(stacked[1])
    rows = low.step_rows(lengths, used)
    outputs, new_keys, new_values = [], [], []
    for slot, qkv in enumerate(_query_rows(low, rows, query, key, value)):
        out, new_key, new_value = low.op.GroupQueryAttention(
            *qkv,
            keys[slot],
            values[slot],
            rows.last_rows[slot],
            rows.total_rows[slot],
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
        outputs.append(_unpadded(low, rows, slot, out))
        new_keys.append(new_key)
        new_values.append(new_value)
    finish(low, node, low.join_rows(outputs), stacked[:2], new_keys, new_values)


def _optional(spec: AttentionSpec) -> dict[str, int | float]:
    """The kernel's attributes for what most models do without."""
    values = {"local_window_size": spec.window, "softcap": spec.softcap}
    return {name: value for name, value in values.items() if value}


def node_inputs(node: ir.Node) -> list[ir.Value]:
    """The node's inputs; sinks are last, where the op has them."""
    return [value for value in node.inputs if value is not None]


def _query_rows(
    low: Lowering, rows: StepRows, query: ir.Value, key: ir.Value, value: ir.Value
) -> list[list[ir.Value | None]]:
    """Per slot the first three inputs of GroupQueryAttention; a fused projection is passed as it is."""
    producer = query.producer()
    fused = producer is not None and producer.op_type == "Split"
    if fused and producer is not None and tuple(producer.outputs) == (query, key, value):
        packed = producer.inputs[0]
        assert packed is not None
        return [[row, None, None] for row in _padded(low, rows, packed)]
    return [list(parts) for parts in zip(*(_padded(low, rows, x) for x in (query, key, value)), strict=True)]


def _padded(low: Lowering, rows: StepRows, x: ir.Value) -> list[ir.Value]:
    """Every slot's rows [1, n, W] of a packed input; where single rows are padded, at least two of them."""
    parts = rows.split(x)
    if rows.pad_single_rows:
        parts = [low.op.Pad(part, pads) for part, pads in zip(parts, rows.row_pads, strict=True)]
    return [low.op.Unsqueeze(part, [0]) for part in parts]


def _unpadded(low: Lowering, rows: StepRows, slot: int, output: ir.Value) -> ir.Value:
    """Attention's output [1, n, W] without the padding, [n, W]."""
    tokens = low.op.Squeeze(output, [0])
    return low.op.Slice(tokens, [0], rows.length_rows[slot], [0]) if rows.pad_single_rows else tokens


def finish(
    low: Lowering,
    node: ir.Node,
    output: ir.Value,
    caches: Sequence[ir.Value],
    keys: Sequence[ir.Value],
    values: Sequence[ir.Value],
) -> None:
    """Let `output` stand for the node's, and each slot's `keys` and `values` for the stacked `caches` that it read."""
    output.shape, output.type = node.outputs[0].shape, node.outputs[0].type
    low.replace(node, output)
    for given, output, updated in zip(caches, node.outputs[1:], (keys, values), strict=True):
        low.slot_outputs(given, output, updated)
