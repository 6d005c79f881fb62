"""The stream of uniforms: Philox by its published answers, and what a request may rely on."""

from __future__ import annotations

import numpy as np
import pytest

from dspark_engines.sampling import ACCEPT, DRAFT, NEXT, accept_uniforms, draft_uniforms, uniforms
from dspark_engines.sampling.philox import philox4x32

# Random123's kat_vectors, philox4x32 of 10 rounds: counter, key, answer.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]
POSITIONS = np.arange(40, 48)


def words(text: str) -> np.ndarray:
    return np.array([int(word, 16) for word in text.split()], np.uint64)


def doubled(pair: np.ndarray) -> np.ndarray:
    """Two 32-bit words, low first, as one of 64 bits."""
    return pair[:1] | pair[1:] << np.uint64(32)


def test_philox_gives_the_known_answers() -> None:
    counters, keys, answers = (np.stack([words(row[i]) for row in KNOWN_ANSWERS]) for i in range(3))
    for counter, key, answer in zip(counters, keys, answers, strict=True):  # one by one…
        found = philox4x32(doubled(counter[:2]), doubled(counter[2:]), doubled(key))
        np.testing.assert_array_equal(found[:, 0], answer)
    together = [np.concatenate([doubled(row) for row in part]) for part in (counters[:, :2], counters[:, 2:], keys)]
    np.testing.assert_array_equal(philox4x32(*together), answers.T)  # …and no lane runs over into the next


def test_no_positions_no_uniforms() -> None:
    assert uniforms(1, np.zeros(0, np.int64), DRAFT).shape == (0,)
    assert accept_uniforms(1, np.zeros(0, np.int64), 3).shape == (0, 4, 2)


@pytest.mark.parametrize("purpose", [DRAFT, ACCEPT, NEXT])
def test_uniforms_depend_on_seed_position_and_purpose_alone(purpose: int) -> None:
    together = uniforms(7, POSITIONS, purpose)
    assert together.dtype == np.float32
    alone = [uniforms(7, np.array([position]), purpose)[0] for position in POSITIONS]
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(uniforms(7, POSITIONS[::-1].reshape(2, 4), purpose).reshape(-1), alone[::-1])
    seeds = np.array([7, 8, 2**64 - 1], np.uint64)
    for seed, row in zip(seeds, uniforms(seeds[:, None], np.tile(POSITIONS, (3, 1)), purpose), strict=True):
        np.testing.assert_array_equal(row, uniforms(int(seed), POSITIONS, purpose))


def test_every_part_of_the_counter_counts() -> None:
    seeds = [0, 1, 2, 2**32, 2**64 - 1]
    positions = np.array([0, 1, 2**32, 2**32 + 1, 2**62])
    drawn = [uniforms(seed, positions, purpose) for seed in seeds for purpose in (DRAFT, ACCEPT, NEXT)]
    assert len(np.unique(drawn)) == len(seeds) * 3 * len(positions)


def test_uniforms_have_24_bits_and_stay_below_1() -> None:
    drawn = uniforms(3, np.arange(200_000), ACCEPT)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    np.testing.assert_array_equal(drawn * 2.0**24 % 1, 0)
    assert (drawn * 2.0**24 % 2 == 1).any()
    largest = np.float32((2**32 - 1 >> 8) * 2.0**-24)
    assert largest == np.nextafter(np.float32(1), np.float32(0))


def test_uniforms_are_uniform_and_uncorrelated() -> None:
    """Neighbours in position, purpose and seed; 6 standard deviations of 2^18 samples."""
    positions = np.arange(2**18)
    streams = [uniforms(seed, positions, purpose) for seed in (0, 1) for purpose in (DRAFT, ACCEPT, NEXT)]
    centred = np.array([*streams, np.roll(streams[0], 1)]) - 0.5
    correlation = centred @ centred.T / len(positions) * 12
    assert np.abs(correlation - np.eye(len(centred))).max() < 6 / np.sqrt(len(positions))
    counts = np.histogram(streams[0], 256, (0, 1))[0]
    expected = len(positions) / 256
    assert ((counts - expected) ** 2 / expected).sum() < 255 + 6 * np.sqrt(2 * 255)


def test_verify_uniforms_are_those_of_the_positions_behind_the_anchor() -> None:
    seeds, anchors = np.array([5, 6]), np.array([10, 99])
    drawn = accept_uniforms(seeds, anchors, 7)
    assert drawn.shape == (2, 8, 2)
    for seed, anchor, row in zip(seeds, anchors, drawn, strict=True):
        behind = anchor + 1 + np.arange(8)
        np.testing.assert_array_equal(row[:, 0], uniforms(int(seed), behind, ACCEPT))
        np.testing.assert_array_equal(row[:, 1], uniforms(int(seed), behind, NEXT))
        np.testing.assert_array_equal(accept_uniforms(int(seed), np.array([anchor]), 7)[0], row)


def test_every_round_drafts_afresh() -> None:
    """Also where its block overlaps with the round before, whose rejected tokens may have set a length by now."""
    anchors = np.arange(10, 20)
    drawn = draft_uniforms(5, anchors, 7)
    assert drawn.shape == (10, 7)
    assert len(np.unique(drawn)) == drawn.size
    np.testing.assert_array_equal(draft_uniforms(np.full(10, 5), anchors, 7), drawn)
    np.testing.assert_array_equal(draft_uniforms(5, anchors[3:4], 2)[0], drawn[3, :2])
    others = np.concatenate([uniforms(5, np.arange(40), ACCEPT), uniforms(5, np.arange(40), NEXT)])
    assert not np.isin(drawn, others).any()
