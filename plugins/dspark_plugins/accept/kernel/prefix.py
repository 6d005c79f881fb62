"""`AcceptPrefix`: where each row stops, one program a row."""

import triton
import triton.language as tl

from dspark_plugins.accept.kernel.scan import line_of
from dspark_plugins.nodes.device import finite, first_at, is_number


@triton.jit
def accept_prefix(
    logits, draft_ids, draft_logits, verify_lengths, temperature, uniforms,
    target_max, target_arg, target_sum, draft_max, draft_sum,
    accepted, best_ids, stop,
    VOCAB: tl.constexpr, BLOCK: tl.constexpr, TILES: tl.constexpr, WIDTH: tl.constexpr, LANES: tl.constexpr,
    BROKEN: tl.constexpr,
):  # fmt: skip
    """accepted [R]; best_ids [R], the arg-max of the line where the row stops; stop [R, 4], that line's maxima and sums
    of exponentials of target and draft. A greedy row's step passes None for what it lacks.
    """
    row = tl.program_id(0)
    length = tl.load(verify_lengths + row)
    lines = row * (BLOCK + 1)
    count = tl.zeros((), tl.int64)
    running = tl.full((), 1, tl.int64)
    if draft_logits is not None:
        heat = tl.load(temperature + row)
        start = line_of(verify_lengths, row, LANES)
    for position in range(BLOCK):
        if (position < length) & (running == 1):
            token = tl.load(draft_ids + row * BLOCK + position)
            good = token == _best(target_max, target_arg, lines + position, TILES, WIDTH, BROKEN)
            if draft_logits is not None:
                if heat > 0:
                    p_max, p_sum = _mass(target_max, target_sum, lines + position, heat, TILES, WIDTH)
                    q_max, q_sum = _mass(draft_max, draft_sum, lines + position, heat, TILES, WIDTH)
                    p_logit = tl.load(logits + (start + position) * VOCAB + token)
                    q_logit = tl.load(draft_logits + (row.to(tl.int64) * BLOCK + position) * VOCAB + token)
                    p = tl.exp((p_logit - finite(p_max)) / heat) / p_sum
                    q = tl.exp((q_logit - finite(q_max)) / heat) / q_sum
                    uniform = tl.load(uniforms + (lines + position) * 2)
                    # The sums of broken lines are NaN, and no comparison with NaN holds.
                    good = (p > 0) & (uniform * q <= p)
            running = good.to(tl.int64)
            count += running
    tl.store(accepted + row, count)
    tl.store(best_ids + row, _best(target_max, target_arg, lines + count, TILES, WIDTH, BROKEN))
    if draft_logits is not None:
        if heat > 0:
            p_max, p_sum = _mass(target_max, target_sum, lines + count, heat, TILES, WIDTH)
            tl.store(stop + row * 4, p_max)
            tl.store(stop + row * 4 + 1, p_sum)
            if count < length:
                q_max, q_sum = _mass(draft_max, draft_sum, lines + count, heat, TILES, WIDTH)
                tl.store(stop + row * 4 + 2, q_max)
                tl.store(stop + row * 4 + 3, q_sum)


@triton.jit
def _best(target_max, target_arg, line, TILES: tl.constexpr, WIDTH: tl.constexpr, BROKEN: tl.constexpr):
    """The line's arg-max: the first tile that holds the maximum, and the first token in it; or BROKEN."""
    tiles = tl.arange(0, WIDTH)
    maxima = tl.load(target_max + line * TILES + tiles, mask=tiles < TILES, other=float("-inf"))
    best = tl.max(maxima, 0)
    tile = first_at(maxima, best, tiles, TILES - 1)
    return tl.where(is_number(best), tl.load(target_arg + line * TILES + tile).to(tl.int64), BROKEN)


@triton.jit
def _mass(maxima, sums, line, heat, TILES: tl.constexpr, WIDTH: tl.constexpr):
    """(the line's maximum, the sum of exp((logit - maximum) / temperature) over it)."""
    tiles = tl.arange(0, WIDTH)
    here = tiles < TILES
    peaks = tl.load(maxima + line * TILES + tiles, mask=here, other=float("-inf"))
    parts = tl.load(sums + line * TILES + tiles, mask=here, other=0.0)
    best = tl.max(peaks, 0)
    return best, tl.sum(parts * tl.exp((peaks - finite(best)) / heat), 0)
