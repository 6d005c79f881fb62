"""`MarkovScores`: one tile of the vocabulary in one step, base logits plus W2 times the step's vectors.

A program owns TILE tokens and all rows, so that W2 is read once a step. It leaves each row's maximum over the tile and
where that is; when sampling also the sum of exp((logit - maximum) / temperature) and the logits themselves.
"""

import triton
import triton.language as tl

from dspark_plugins.nodes.device import finite, first_at, hotness, long


@triton.jit
def markov_scores(
    base_logits,
    table,
    index,
    w2,
    temperature,
    rows,
    step,
    logits,
    tile_max,
    tile_arg,
    tile_sum,
    VOCAB: tl.constexpr,
    BLOCK: tl.constexpr,
    RANK: tl.constexpr,
    DEPTH: tl.constexpr,
    TILE: tl.constexpr,
    TILES: tl.constexpr,
    ROWS: tl.constexpr,
    FEW: tl.constexpr,
    CHUNK: tl.constexpr,
    GATHER: tl.constexpr,
):
    """Vector b is table[index[b]] with GATHER, else table[b].

    ROWS 1, and FEW rows that tensor cores do not take: row by row; else ROWS rows as a matrix product.
    """
    TAKEN: tl.constexpr = table.dtype == w2.dtype and w2.dtype.element_ty != tl.float32
    if ROWS == 1 or (FEW and not TAKEN):
        _row_by_row(
            base_logits, table, index, w2, temperature, rows, step, logits, tile_max, tile_arg, tile_sum,
            VOCAB, BLOCK, RANK, DEPTH, TILE, TILES, GATHER,
        )  # fmt: skip
    else:
        _many_rows(
            base_logits, table, index, w2, temperature, rows, step, logits, tile_max, tile_arg, tile_sum,
            VOCAB, BLOCK, RANK, DEPTH, TILE, TILES, ROWS, CHUNK, GATHER,
        )  # fmt: skip


@triton.jit
def _row_by_row(
    base_logits, table, index, w2, temperature, rows, step, logits, tile_max, tile_arg, tile_sum,
    VOCAB: tl.constexpr, BLOCK: tl.constexpr, RANK: tl.constexpr, DEPTH: tl.constexpr, TILE: tl.constexpr,
    TILES: tl.constexpr, GATHER: tl.constexpr,
):  # fmt: skip
    """The tile of W2 stays in registers while the rows pass by."""
    tile = tl.program_id(0)
    ids, depth = tile * TILE + tl.arange(0, TILE), tl.arange(0, DEPTH)
    known, used = ids < VOCAB, depth < RANK
    weights = tl.load(
        w2 + ids[:, None].to(tl.int64) * RANK + depth[None, :], mask=known[:, None] & used[None, :], other=0.0
    ).to(tl.float32)
    for row in range(rows):
        source = tl.load(index + row) if GATHER else long(row)
        vector = tl.load(table + source * RANK + depth, mask=used, other=0.0).to(tl.float32)
        line = (long(row) * BLOCK + step) * VOCAB
        values = tl.load(base_logits + line + ids, mask=known, other=float("-inf"))
        values += tl.sum(weights * vector[None, :], 1)
        best = tl.max(values, 0)
        place = row * TILES + tile
        tl.store(tile_max + place, best)
        tl.store(tile_arg + place, first_at(values, best, ids, VOCAB - 1))
        if logits is not None:
            tl.store(logits + long(row) * VOCAB + ids, values, mask=known)
            spread = tl.exp((values - finite(best)) / hotness(tl.load(temperature + row)))
            tl.store(tile_sum + place, tl.sum(spread, 0))


@triton.jit
def _many_rows(
    base_logits, table, index, w2, temperature, rows, step, logits, tile_max, tile_arg, tile_sum,
    VOCAB: tl.constexpr, BLOCK: tl.constexpr, RANK: tl.constexpr, DEPTH: tl.constexpr, TILE: tl.constexpr,
    TILES: tl.constexpr, ROWS: tl.constexpr, CHUNK: tl.constexpr, GATHER: tl.constexpr,
):  # fmt: skip
    """ROWS rows at once; in float32 throughout, unless vectors and W2 are of one half precision."""
    tile, row = tl.program_id(0), tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    ids, live = tile * TILE + tl.arange(0, TILE), row < rows
    known = ids < VOCAB
    source = tl.load(index + row, mask=live, other=0) if GATHER else row.to(tl.int64)
    bias = tl.zeros((ROWS, TILE), tl.float32)
    for start in range(0, DEPTH, CHUNK):
        depth = start + tl.arange(0, CHUNK)
        used = depth < RANK
        vectors = tl.load(
            table + source[:, None] * RANK + depth[None, :], mask=live[:, None] & used[None, :], other=0.0
        )
        weights = tl.load(
            w2 + ids[None, :].to(tl.int64) * RANK + depth[:, None], mask=known[None, :] & used[:, None], other=0.0
        )
        if vectors.dtype != weights.dtype:
            vectors, weights = vectors.to(tl.float32), weights.to(tl.float32)
        bias = tl.dot(vectors, weights, bias, input_precision="ieee")
    inside = live[:, None] & known[None, :]
    line = (row.to(tl.int64) * BLOCK + step) * VOCAB
    values = bias + tl.load(base_logits + line[:, None] + ids[None, :], mask=inside, other=float("-inf"))
    best = tl.max(values, 1)
    place = row * TILES + tile
    tl.store(tile_max + place, best, mask=live)
    first = tl.min(tl.where(values == best[:, None], ids[None, :], VOCAB - 1), 1)
    tl.store(tile_arg + place, first, mask=live)
    if logits is not None:
        tl.store(logits + row[:, None].to(tl.int64) * VOCAB + ids[None, :], values, mask=inside)
        heat = hotness(tl.load(temperature + row, mask=live, other=1.0))
        spread = tl.exp((values - finite(best)[:, None]) / heat[:, None])
        tl.store(tile_sum + place, tl.sum(spread, 1), mask=live)
