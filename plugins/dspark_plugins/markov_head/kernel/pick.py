"""`MarkovPick`: a step's token from the tiles, the arg-max or, in rows whose temperature is above 0, a draw."""

import triton
import triton.language as tl

from dspark_plugins.nodes.device import finite, first_above, first_at


@triton.jit
def markov_pick(
    logits,
    tile_max,
    tile_arg,
    tile_sum,
    temperature,
    uniforms,
    step,
    ids,
    VOCAB: tl.constexpr,
    BLOCK: tl.constexpr,
    TILE: tl.constexpr,
    TILES: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """One program a row. A greedy head passes None for what it lacks; WIDTH is the power of two at or above TILES."""
    row, tiles = tl.program_id(0), tl.arange(0, WIDTH)
    here = tiles < TILES
    maxima = tl.load(tile_max + row * TILES + tiles, mask=here, other=float("-inf"))
    best = tl.max(maxima, 0)
    tile = first_at(maxima, best, tiles, TILES - 1)
    token = tl.load(tile_arg + row * TILES + tile).to(tl.int64)
    if logits is not None:
        heat = tl.load(temperature + row)
        if heat > 0:
            sums = tl.load(tile_sum + row * TILES + tiles, mask=here, other=0.0)
            weights = (sums * tl.exp((maxima - finite(best)) / heat)).to(tl.float64)
            threshold = tl.load(uniforms + row * BLOCK + step).to(tl.float64) * tl.sum(weights, 0)
            tile, before = first_above(weights, threshold, tiles)
            offsets = tl.arange(0, TILE)
            places = tile * TILE + offsets
            values = tl.load(logits + row.to(tl.int64) * VOCAB + places, mask=places < VOCAB, other=float("-inf"))
            inside = tl.exp((values - finite(best)) / heat).to(tl.float64)
            offset, _ = first_above(inside, threshold - before, offsets)
            token = (tile * TILE + offset).to(tl.int64)
    tl.store(ids + row, token)
