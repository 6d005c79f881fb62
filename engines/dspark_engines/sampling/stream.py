"""Uniforms that are a pure function of (seed, position, purpose), so that nothing else can change a request's draws.

A request's positions are absolute, its prompt's first token being 0. Philox makes four words of a counter: the
purpose picks the word, and the counter is (position, index in the block).

Drafts are numbered by the anchor's position and the index in the block, not by the token's own position. A round that
rejects a token drafts the positions behind it once more; if those used the same uniforms again, they would repeat the
thrown-away tokens, whose confidences may have decided by then how much is verified, of this row or, through the
shared budget, of another. Such a length would depend on a token not yet admitted, which loses losslessness (design
§2). Every round has another anchor, so its drafts are fresh. What decides about a position and what draws its final
token is looked at once only, so the position numbers those.
"""

from __future__ import annotations

import numpy as np

from dspark_engines.arrays import Floats, Ints
from dspark_engines.sampling.philox import Vector, philox4x32

Seeds = int | Ints | Vector
"""One seed for all, or one each."""

DRAFT, ACCEPT, NEXT = 0, 1, 2
"""Purposes: drawing a draft token, deciding about it, drawing the token that ends a round (or a plain step)."""


def uniforms(seed: Seeds, positions: Ints, purpose: int) -> Floats:
    """float32 in [0, 1), of the shape of `positions`; `seed` is one for all, or an array to broadcast to it.

    24 bits each, exactly representable: 1 never comes out. Seeds are in 0 .. 2^64-1, positions not negative.
    """
    return _fractions(_words(seed, positions, 0)[purpose])


def draft_uniforms(seeds: Seeds, anchor_positions: Ints, block_size: int) -> Floats:
    """[R, block_size] for the draft engine: the blocks behind anchors at anchor_positions [R]; seeds one or [R]."""
    positions = np.repeat(anchor_positions[:, None], block_size, axis=1)
    return _fractions(_words(_column(seeds), positions, np.arange(block_size))[DRAFT])


def accept_uniforms(seeds: Seeds, anchor_positions: Ints, block_size: int) -> Floats:
    """[R, block_size + 1, 2] for `accept_rows`: (ACCEPT, NEXT) of every position behind anchor_positions [R]."""
    positions = anchor_positions[:, None] + np.arange(1, block_size + 2)
    words = _words(_column(seeds), positions, 0)
    return _fractions(np.stack([words[ACCEPT], words[NEXT]], axis=-1))


def _column(seeds: Seeds) -> Seeds:
    return seeds[:, None] if isinstance(seeds, np.ndarray) else seeds


def _words(seed: Seeds, positions: Ints, index: int | Ints) -> Vector:
    """[4, *shape of positions], to which `seed` and `index` broadcast."""
    vectors = [np.empty(positions.shape, np.uint64) for _ in range(3)]
    for vector, value in zip(vectors, (positions, index, seed), strict=True):
        vector[...] = value
    return philox4x32(*(vector.reshape(-1) for vector in vectors)).reshape(4, *positions.shape)


def _fractions(words: Vector) -> Floats:
    """The upper 24 of 32 bits, as a fraction of 1."""
    return np.asarray((words >> np.uint64(8)) * 2.0**-24, np.float32)
