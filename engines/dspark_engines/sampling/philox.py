"""Philox4x32-10, the counter-based generator of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011).

A call of NumPy costs about a microsecond however short its arrays, and ten rounds take fifty of them. So the vectors
are Python integers, one 64-bit lane for each element: elements are below 2^32, so their products stay in the lane,
and a round over a few dozen elements is a dozen cheap operations.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.uint64]

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)  # what the key grows by after each round
WORD = 0xFFFFFFFF


def philox4x32(first: Vector, second: Vector, key: Vector) -> Vector:
    """Random words [4, n], below 2^32; first [n] holds words 0 and 1 of the counters, second [n] 2 and 3, low first."""
    ones = int.from_bytes(b"\1\0\0\0\0\0\0\0" * len(first), "little")
    mask, w0, w1 = WORD * ones, WEYL[0] * ones, WEYL[1] * ones
    (c0, c1), (c2, c3), (k0, k1) = _split(first, mask), _split(second, mask), _split(key, mask)
    for _ in range(ROUNDS):
        p0, p1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1 = p1 >> 32 & mask ^ c1 ^ k0, p1 & mask
        c2, c3 = p0 >> 32 & mask ^ c3 ^ k1, p0 & mask
        k0, k1 = k0 + w0 & mask, k1 + w1 & mask
    lanes = b"".join([word.to_bytes(8 * len(first), "little") for word in (c0, c1, c2, c3)])
    return np.frombuffer(lanes, "<u8").reshape(4, -1)


def _split(vector: Vector, mask: int) -> tuple[int, int]:
    """The lower and the upper halves of the elements, in lanes."""
    lanes = int.from_bytes(vector.astype("<u8", copy=False).tobytes(), "little")
    return lanes & mask, lanes >> 32 & mask
