"""`AcceptScan`: one tile of one line that is verified, and what the rejection test needs of it."""

import triton
import triton.language as tl

from dspark_plugins.nodes.device import finite, first_at, without_nan


@triton.jit
def line_of(verify_lengths, row, LANES: tl.constexpr):
    """The row's first packed line: the rows before it hold their verified tokens and one more each."""
    total = tl.zeros((LANES,), tl.int64)
    for start in range(0, row, LANES):
        others = start + tl.arange(0, LANES)
        before = others < row
        total += tl.load(verify_lengths + others, mask=before, other=-1) + 1
    return tl.sum(total, 0)


@triton.jit
def accept_scan(
    logits, draft_logits, verify_lengths, temperature, target_max, target_arg, target_sum, draft_max, draft_sum,
    VOCAB: tl.constexpr, BLOCK: tl.constexpr, TILE: tl.constexpr, TILES: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Grid (tiles, g+1, rows). Lines that are not verified are left alone; greedy rows need the arg-max only."""
    tile, position, row = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    length = tl.load(verify_lengths + row)
    if position <= length:
        ids = tile * TILE + tl.arange(0, TILE)
        known = ids < VOCAB
        line = line_of(verify_lengths, row, LANES) + position
        values = without_nan(tl.load(logits + line * VOCAB + ids, mask=known, other=float("-inf")))
        best = tl.max(values, 0)
        place = (row * (BLOCK + 1) + position) * TILES + tile
        tl.store(target_max + place, best)
        tl.store(target_arg + place, first_at(values, best, ids, VOCAB - 1))
        if draft_logits is not None:
            heat = tl.load(temperature + row)
            if heat > 0:
                tl.store(target_sum + place, tl.sum(tl.exp((values - finite(best)) / heat), 0))
                if position < length:
                    line = row.to(tl.int64) * BLOCK + position
                    values = without_nan(tl.load(draft_logits + line * VOCAB + ids, mask=known, other=float("-inf")))
                    best = tl.max(values, 0)
                    tl.store(draft_max + place, best)
                    tl.store(draft_sum + place, tl.sum(tl.exp((values - finite(best)) / heat), 0))
