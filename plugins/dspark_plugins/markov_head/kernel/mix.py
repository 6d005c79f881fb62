"""`MarkovMixGated` and `MarkovMixRnn`: the vectors that W2 is multiplied with in a step.

The hidden states' part of the linear layer depends on no token: it comes as `projected`, bias included, computed for
all positions at once before the first step. Here only the columns of the embedding (and of the state) are multiplied.
"""

import triton
import triton.language as tl


@triton.jit
def markov_mix_gated(
    projected, w1, mix_weight, previous, rows, step, mixed,
    BLOCK: tl.constexpr, RANK: tl.constexpr, DEPTH: tl.constexpr, HIDDEN: tl.constexpr,
    TILE: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """mixed = σ(projected + G e) * e, with e = W1[previous] and mix_weight [r, H+r] in the order hidden, embedding."""
    unit, depth = tl.program_id(0) * TILE + tl.arange(0, TILE), tl.arange(0, DEPTH)
    known, used = unit < RANK, depth < RANK
    both = known[:, None] & used[None, :]
    gate_weight = _columns(mix_weight, unit, HIDDEN + depth, both, HIDDEN + RANK)
    first = tl.program_id(1) * ROWS
    for row in range(first, tl.minimum(first + ROWS, rows)):
        source = w1 + tl.load(previous + row) * RANK
        embedding = tl.load(source + depth, mask=used, other=0.0).to(tl.float32)
        line = projected + (row * BLOCK + step) * RANK
        gate = tl.load(line + unit, mask=known, other=0.0).to(tl.float32)
        gate = _sigmoid(gate + tl.sum(gate_weight * embedding[None, :], 1))
        own = tl.load(source + unit, mask=known, other=0.0).to(tl.float32)
        tl.store(mixed + row * RANK + unit, gate * own, mask=known)


@triton.jit
def markov_mix_rnn(
    projected, w1, mix_weight, previous, state, rows, step, mixed, next_state,
    BLOCK: tl.constexpr, RANK: tl.constexpr, DEPTH: tl.constexpr, HIDDEN: tl.constexpr,
    TILE: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """next_state = σ(g) state + (1 - σ(g)) tanh(c), mixed = tanh(o); mix_weight [3r, 2r+H] in the order s, e, h."""
    unit, depth = tl.program_id(0) * TILE + tl.arange(0, TILE), tl.arange(0, DEPTH)
    known, used = unit < RANK, depth < RANK
    both = known[:, None] & used[None, :]
    WIDTH: tl.constexpr = 2 * RANK + HIDDEN
    gate_s = _columns(mix_weight, unit, depth, both, WIDTH)
    gate_e = _columns(mix_weight, unit, RANK + depth, both, WIDTH)
    candidate_s = _columns(mix_weight, RANK + unit, depth, both, WIDTH)
    candidate_e = _columns(mix_weight, RANK + unit, RANK + depth, both, WIDTH)
    output_s = _columns(mix_weight, 2 * RANK + unit, depth, both, WIDTH)
    output_e = _columns(mix_weight, 2 * RANK + unit, RANK + depth, both, WIDTH)
    first = tl.program_id(1) * ROWS
    for row in range(first, tl.minimum(first + ROWS, rows)):
        embedding = tl.load(w1 + tl.load(previous + row) * RANK + depth, mask=used, other=0.0).to(tl.float32)
        before = tl.load(state + row * RANK + depth, mask=used, other=0.0)
        line = projected + (row * BLOCK + step) * 3 * RANK
        gate = _sigmoid(_part(line, unit, known, gate_s, before, gate_e, embedding))
        candidate = _tanh(_part(line + RANK, unit, known, candidate_s, before, candidate_e, embedding))
        output = _tanh(_part(line + 2 * RANK, unit, known, output_s, before, output_e, embedding))
        own = tl.load(state + row * RANK + unit, mask=known, other=0.0)
        tl.store(next_state + row * RANK + unit, gate * own + (1 - gate) * candidate, mask=known)
        tl.store(mixed + row * RANK + unit, output, mask=known)


@triton.jit
def _columns(weight, units, columns, mask, WIDTH: tl.constexpr):
    return tl.load(weight + units[:, None] * WIDTH + columns[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _part(line, unit, known, weight_s, before, weight_e, embedding):
    """One of the three chunks of the joint layer, for the units of this program."""
    projected = tl.load(line + unit, mask=known, other=0.0).to(tl.float32)
    return projected + tl.sum(weight_s * before[None, :], 1) + tl.sum(weight_e * embedding[None, :], 1)


@triton.jit
def _sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
def _tanh(x):
    """By way of exp(-2|x|), which never overflows."""
    decayed = tl.exp(-2 * tl.abs(x))
    size = (1 - decayed) / (1 + decayed)
    return tl.where(x < 0, -size, size)
