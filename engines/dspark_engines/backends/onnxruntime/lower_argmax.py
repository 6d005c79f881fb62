"""Arg-max over the vocabulary for ONNX Runtime's CPU provider, whose ArgMax looks at one number at a time."""

from __future__ import annotations

import onnx_ir as ir

from dspark_engines.backends.onnxruntime.rewriting import Lowering

LAST = [-1]
NARROWEST, WIDEST = 64, 512
"""Tiles that are worth it: the maxima of all tiles are searched one by one, and then one tile."""
LOGITS = "draft_logits"
AS_HEADS_WRITE_IT = {"axis": -1, "keepdims": 0}


def lower_argmax(low: Lowering, node: ir.Node) -> bool:
    """Replace a Markov head's ArgMax of [R, V] by ReduceMax over tiles, which is vectorised, and two short ArgMax.

    The same index: the first tile that has the largest value has its first place, which is the first in the tile.
    Without a tile that divides V nothing is done, and the answer is False.
    """
    width = tile_width(_vocabulary(low.graph))
    if not width or {name: a.as_int() for name, a in node.attributes.items()} != AS_HEADS_WRITE_IT:
        return False
    op = low.op
    tiles = op.Reshape(node.inputs[0], low.once("tiles", lambda: op.Constant(value_ints=[0, -1, width])))
    tile = op.ArgMax(op.ReduceMax(tiles, LAST, keepdims=0), axis=-1)
    place = op.ArgMax(op.GatherND(tiles, tile, batch_dims=1), axis=-1, keepdims=0)
    low.replace(node, op.Add(op.Mul(op.Squeeze(tile, LAST), width), place))
    return True


def tile_width(columns: int) -> int:
    """The largest width in range that divides `columns`; 0 where none does."""
    return next((width for width in range(WIDEST, NARROWEST - 1, -1) if columns and columns % width == 0), 0)


def _vocabulary(graph: ir.Graph) -> int:
    """0 for a graph that draws nothing."""
    logits = next((value for value in graph.outputs if value.name == LOGITS), None)
    columns = logits.shape[-1] if logits is not None and logits.shape is not None else 0
    return columns if isinstance(columns, int) else 0
