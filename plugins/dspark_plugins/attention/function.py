"""Both attention ops as ONNX local functions in standard ops: correct anywhere, fast nowhere.

Rows are laid side by side along one key axis and told apart by a mask, so one standard `Attention`
serves any number of rows. Backends replace the node by their own lowering; this form is what the
lowering is checked against.
"""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir
from onnxscript import OpBuilder, build_function

from dspark_plugins.attention.contract import AttentionSpec
from dspark_plugins.domain import DOMAIN, OPSET


class _Rows(NamedTuple):
    """Row and position of every packed token, [n] each."""

    row: ir.Value
    position: ir.Value


def attention_function(spec: AttentionSpec, overload: str = "") -> ir.Function:
    """The function body for `spec`; see the contract for inputs and outputs.

    A graph whose layers differ has one body for each spec, told apart by `overload`.
    """
    body = _Body(spec)
    trace = body.block if spec.block_size else body.causal
    kinds = {int: ir.AttributeType.INT, float: ir.AttributeType.FLOAT}
    attributes = [ir.Attr(name, kinds[type(value)], value) for name, value in spec.attributes().items()]
    function = build_function(
        trace,
        [ir.Value(name=name) for name in spec.inputs()],
        domain=DOMAIN,
        name=spec.op_type,
        attributes=attributes,
        opset_imports={"": OPSET},
    )
    function.overload = overload
    return function


def read_node(node: ir.Node) -> AttentionSpec:
    """The spec of a node of either op."""
    values = {name: attribute.value for name, attribute in node.attributes.items()}
    return AttentionSpec(**values | {"sinks": bool(values.get("sinks"))})


class _Body:
    def __init__(self, spec: AttentionSpec) -> None:
        self.spec = spec

    def causal(self, op: OpBuilder, *inputs: ir.Value) -> tuple[ir.Value, ...]:
        query, key, value, lengths, used, cos, sin, key_cache, value_cache, *sinks = inputs
        rows = _rows(op, lengths, used)
        q = self._rotate(op, query, rows.position, cos, sin, self.spec.num_heads)
        k = self._rotate(op, key, rows.position, cos, sin, self.spec.num_kv_heads)
        keys = self._write(op, key_cache, k, rows)
        values = self._write(op, value_cache, value, rows)
        cell_row, cell_position = _cells(op, key_cache)
        position = op.Unsqueeze(rows.position, [1])
        mask = op.And(_same(op, rows.row, cell_row), op.LessOrEqual(cell_position, position))
        if self.spec.window:
            mask = op.And(mask, op.Greater(cell_position, op.Sub(position, self.spec.window)))
        seen = (_flat(op, keys), _flat(op, values), mask)
        output = self._attend(op, q, *(_with_sinks(op, *seen, sinks[0]) if sinks else seen))
        return output, keys, values

    def block(self, op: OpBuilder, *inputs: ir.Value) -> tuple[ir.Value, ...]:
        query, key, value, lengths, used, cos, sin, key_cache, value_cache = inputs
        context, block = _rows(op, lengths, used), self._block_rows(op, lengths, used)
        q = self._rotate(op, query, block.position, cos, sin, self.spec.num_heads)
        positions = op.Concat(context.position, block.position, axis=0)
        k = self._rotate(op, key, positions, cos, sin, self.spec.num_kv_heads)
        sizes = op.Concat(op.Shape(context.row), op.Shape(block.row), axis=0)
        k_context, k_block = op.Split(k, sizes, axis=0, _outputs=2)
        v_context, v_block = op.Split(value, sizes, axis=0, _outputs=2)
        keys = self._write(op, key_cache, k_context, context)
        values = self._write(op, value_cache, v_context, context)
        all_keys = op.Concat(_flat(op, keys), self._by_head(op, k_block), axis=2)
        all_values = op.Concat(_flat(op, values), self._by_head(op, v_block), axis=2)
        mask = self._block_mask(op, block.row, op.Add(used, lengths), key_cache)
        return self._attend(op, q, all_keys, all_values, mask), keys, values

    def _block_rows(self, op: OpBuilder, lengths: ir.Value, used: ir.Value) -> _Rows:
        block = self.spec.block_size
        index = _range(op, op.Mul(op.Squeeze(op.Shape(lengths), [0]), block))
        row = op.Div(index, block)
        return _Rows(row, op.Add(op.Gather(op.Add(used, lengths), row), op.Mod(index, block)))

    def _block_mask(self, op: OpBuilder, row: ir.Value, ends: ir.Value, key_cache: ir.Value) -> ir.Value:
        """Context cells before the row's end, and cells of the row's own block, as far as the spec lets see them."""
        cell_row, cell_position = _cells(op, key_cache)
        end = op.Unsqueeze(op.Gather(ends, row), [1])
        context = op.And(_same(op, row, cell_row), op.Less(cell_position, end))
        if self.spec.window:
            context = op.And(context, op.GreaterOrEqual(cell_position, op.Sub(end, self.spec.window)))
        block = _same(op, row, row)
        if self.spec.causal:
            index = _range(op, op.Squeeze(op.Shape(row), [0]))
            block = op.And(block, op.LessOrEqual(op.Unsqueeze(index, [0]), op.Unsqueeze(index, [1])))
        return op.Concat(context, block, axis=1)

    def _rotate(
        self, op: OpBuilder, x: ir.Value, position: ir.Value, cos: ir.Value, sin: ir.Value, heads: int
    ) -> ir.Value:
        # Gathered angles: with position ids ONNX Runtime wants no more packed tokens than the tables have rows.
        angles = [op.Unsqueeze(op.Gather(table, position), [0]) for table in (cos, sin)]
        return op.Squeeze(op.RotaryEmbedding(op.Unsqueeze(x, [0]), *angles, num_heads=heads), [0])

    def _write(self, op: OpBuilder, cache: ir.Value, x: ir.Value, rows: _Rows) -> ir.Value:
        """Write x [n, Hkv*D] at (row, position) of cache [R, Hkv, C, D]."""
        heads = op.Reshape(x, [-1, self.spec.num_kv_heads, self.spec.head_dim])
        where = op.Concat(op.Unsqueeze(rows.row, [1]), op.Unsqueeze(rows.position, [1]), axis=1)
        by_position = op.Transpose(cache, perm=[0, 2, 1, 3])
        return op.Transpose(op.ScatterND(by_position, where, heads), perm=[0, 2, 1, 3])

    def _by_head(self, op: OpBuilder, x: ir.Value) -> ir.Value:
        """[n, Hkv*D] -> [1, Hkv, n, D]."""
        heads = op.Reshape(x, [1, -1, self.spec.num_kv_heads, self.spec.head_dim])
        return op.Transpose(heads, perm=[0, 2, 1, 3])

    def _attend(self, op: OpBuilder, q: ir.Value, keys: ir.Value, values: ir.Value, mask: ir.Value) -> ir.Value:
        batched = op.Reshape(q, [1, -1, self.spec.num_heads, self.spec.head_dim])
        queries, scoring = op.Transpose(batched, perm=[0, 2, 1, 3]), {"scale": self.spec.factor}
        scoring |= {"softcap": self.spec.softcap} if self.spec.softcap else {}
        out = op.Attention(queries, keys, values, mask, **scoring)
        return op.Reshape(op.Transpose(out, perm=[0, 2, 1, 3]), [-1, self.spec.num_heads * self.spec.head_dim])


def _with_sinks(
    op: OpBuilder, keys: ir.Value, values: ir.Value, mask: ir.Value, sinks: ir.Value
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """A cell more, of zeros: its score is what the mask adds, the head's sink. Mask [n, t] to [1, Hq, n, t + 1]."""
    bias = op.Unsqueeze(op.Where(mask, 0.0, float("-inf")), [0, 1])
    heads = op.Shape(sinks)
    rows = op.Shape(mask, start=0, end=1)
    of_heads = op.Expand(bias, op.Concat([1], heads, [1, 1], axis=0))
    sink = op.Expand(op.Reshape(sinks, [1, -1, 1, 1]), op.Concat([1], heads, rows, [1], axis=0))
    pads = [0, 0, 0, 0, 0, 0, 1, 0]
    return op.Pad(keys, pads), op.Pad(values, pads), op.Concat(of_heads, sink, axis=3)


def _range(op: OpBuilder, count: ir.Value) -> ir.Value:
    return op.Range(0, count, 1)


def _rows(op: OpBuilder, lengths: ir.Value, used: ir.Value) -> _Rows:
    """Row r's tokens follow row r-1's; token i of row r stands at used[r] + i."""
    ends = op.CumSum(lengths, 0)
    index = _range(op, op.ReduceSum(lengths, keepdims=0))
    passed = op.GreaterOrEqual(op.Unsqueeze(index, [1]), op.Unsqueeze(ends, [0]))
    row = op.ReduceSum(op.Cast(passed, to=ir.DataType.INT64), [1], keepdims=0)
    offset = op.Sub(index, op.Gather(op.Sub(ends, lengths), row))
    return _Rows(row, op.Add(op.Gather(used, row), offset))


def _cells(op: OpBuilder, cache: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Row and position of every cache cell laid out as [1, R*C]."""
    capacity = op.Squeeze(op.Shape(cache, start=2, end=3), [0])
    cells = op.Mul(op.Squeeze(op.Shape(cache, start=0, end=1), [0]), capacity)
    index = op.Unsqueeze(_range(op, cells), [0])
    return op.Div(index, capacity), op.Mod(index, capacity)


def _same(op: OpBuilder, row: ir.Value, other: ir.Value) -> ir.Value:
    """[n] against [m] or [1, m] -> [n, m]."""
    return op.Equal(op.Unsqueeze(row, [1]), op.Reshape(other, [1, -1]))


def _flat(op: OpBuilder, cache: ir.Value) -> ir.Value:
    """[R, Hkv, C, D] -> [1, Hkv, R*C, D]."""
    heads_first = op.Transpose(cache, perm=[1, 0, 2, 3])
    shape = op.Shape(cache)
    return op.Reshape(
        heads_first,
        op.Concat([1], op.Slice(shape, [1], [2]), [-1], op.Slice(shape, [3], [4]), axis=0),
    )
