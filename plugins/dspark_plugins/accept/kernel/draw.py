"""`AcceptWeigh` and `AcceptDraw`: the token behind the accepted ones, by tiles and then within a tile."""

import triton
import triton.language as tl

from dspark_plugins.accept.kernel.scan import line_of
from dspark_plugins.nodes.device import finite, first_above, is_number


@triton.jit
def accept_weigh(
    logits, draft_logits, verify_lengths, temperature, accepted, stop, target_mass, residual_mass,
    VOCAB: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr, TILES: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Grid (tiles, rows): the mass of p, and of max(p - q, 0), in each tile of the line where a row stops."""
    tile, row = tl.program_id(0), tl.program_id(1)
    heat = tl.load(temperature + row)
    if heat > 0:
        p, residual = _masses(
            logits, draft_logits, verify_lengths, accepted, stop, heat, row, tile, VOCAB, BLOCK, TILE, LANES
        )
        tl.store(target_mass + row * TILES + tile, tl.sum(p, 0))
        tl.store(residual_mass + row * TILES + tile, tl.sum(residual, 0))


@triton.jit
def accept_draw(
    logits, draft_logits, verify_lengths, temperature, uniforms, accepted, best_ids, stop, target_mass, residual_mass,
    next_ids,
    VOCAB: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr, TILES: tl.constexpr, WIDTH: tl.constexpr,
    LANES: tl.constexpr, FLOOR: tl.constexpr, BROKEN: tl.constexpr,
):  # fmt: skip
    """One program a row: the tile that the uniform falls into, then the token in it; the arg-max in greedy rows."""
    row, tiles = tl.program_id(0), tl.arange(0, WIDTH)
    token = tl.load(best_ids + row)
    heat = tl.load(temperature + row)
    if (heat > 0) & (token != BROKEN):
        here = tiles < TILES
        whole = tl.load(target_mass + row * TILES + tiles, mask=here, other=0.0).to(tl.float64)
        rest = tl.load(residual_mass + row * TILES + tiles, mask=here, other=0.0).to(tl.float64)
        count = tl.load(accepted + row)
        rejected = (count < tl.load(verify_lengths + row)) & (tl.sum(rest, 0) > FLOOR)
        masses = tl.where(rejected, rest, whole)
        uniform = tl.load(uniforms + (row * (BLOCK + 1) + count) * 2 + 1).to(tl.float64)
        threshold = uniform * tl.sum(masses, 0)
        tile, before = first_above(masses, threshold, tiles)
        p, residual = _masses(
            logits, draft_logits, verify_lengths, accepted, stop, heat, row, tile, VOCAB, BLOCK, TILE, LANES
        )
        weights = tl.where(rejected, residual, p).to(tl.float64)
        offset, _ = first_above(weights, threshold - before, tl.arange(0, TILE))
        token = (tile * TILE + offset).to(tl.int64)
    tl.store(next_ids + row, token)


@triton.jit
def _masses(
    logits, draft_logits, verify_lengths, accepted, stop, heat, row, tile,
    VOCAB: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """(p, max(p - q, 0)) of a tile of the line where the row stops; after a full acceptance there is no q."""
    ids = tile * TILE + tl.arange(0, TILE)
    known = ids < VOCAB
    count, length = tl.load(accepted + row), tl.load(verify_lengths + row)
    line = line_of(verify_lengths, row, LANES) + count
    values = tl.load(logits + line * VOCAB + ids, mask=known, other=float("-inf"))
    p = tl.exp((values - finite(tl.load(stop + row * 4))) / heat) / tl.load(stop + row * 4 + 1)
    residual = tl.zeros_like(p)
    if (count < length) & is_number(tl.load(stop + row * 4 + 2)):
        line = row.to(tl.int64) * BLOCK + count
        values = tl.load(draft_logits + line * VOCAB + ids, mask=known, other=float("-inf"))
        q = tl.exp((values - finite(tl.load(stop + row * 4 + 2))) / heat) / tl.load(stop + row * 4 + 3)
        residual = tl.maximum(p - q, 0.0)
    return p, residual
