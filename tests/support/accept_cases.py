"""Inputs for `dspark::Accept`, and when two forms of it may disagree about them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dspark_plugins.accept.reference import accept, draw, probabilities, remainder, stands
from tests.support.markov_cases import off_the_edge

Feeds = dict[str, np.ndarray]

ZERO = np.float32(0)
LAST = np.nextafter(np.float32(1), ZERO)  # the largest uniform there is
NEAR = 1e-6  # a decision this close to its threshold may fall to either side
TEMPERATURES = (0.0, 0.3, 1.0, 1.7)
SPOILED = 0.3  # of the lines


def starts_of(lengths: np.ndarray) -> np.ndarray:
    """[R]: a row's first packed line."""
    return np.cumsum(lengths + 1) - lengths - 1


def pack(lines: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """[R, g+1, V] without what is not verified: [K, V]."""
    return lines[np.arange(lines.shape[1]) <= lengths[:, None]]


def random_case(
    rows: int,
    block: int,
    vocab: int,
    seed: int,
    temperatures: Sequence[float] = TEMPERATURES,
    lengths: Sequence[int] | None = None,
) -> Feeds:
    """A drafter that knows its target: half of the tokens are likely, and p is near q; ids are drawn from q."""
    random = np.random.default_rng(seed)
    drafts = (2 * random.standard_normal((rows, block, vocab))).astype(np.float32)
    lines = random.standard_normal((rows, block + 1, vocab)).astype(np.float32)
    lines[:, :block] = drafts + 0.3 * lines[:, :block]
    verify_lengths = random.integers(0, block + 1, rows) if lengths is None else np.asarray(lengths, np.int64)
    temperature = random.choice(np.array(temperatures, np.float32), rows)
    ids = np.zeros((rows, block), np.int64)
    for row, j in np.ndindex(ids.shape):
        hot = temperature[row] > 0
        ids[row, j] = (
            draw(probabilities(drafts[row, j], float(temperature[row])), random.random())
            if hot
            else np.argmax(drafts[row, j])
        )
    return {
        "logits": pack(lines, verify_lengths),
        "draft_ids": ids,
        "draft_logits": drafts,
        "verify_lengths": verify_lengths,
        "temperature": temperature,
        "uniforms": random.random((rows, block + 1, 2), dtype=np.float32),
    }


def spoiled_case(rows: int, block: int, vocab: int, seed: int) -> Feeds:
    """A random case whose lines hold NaN, +inf or nothing but -inf here and there, the target's and the drafter's."""
    feeds, random = random_case(rows, block, vocab, seed), np.random.default_rng([seed, 1])
    for lines in (feeds["logits"], feeds["draft_logits"].reshape(-1, vocab)):
        for line in np.flatnonzero(random.random(len(lines)) < SPOILED):
            where = random.integers(vocab) if random.random() < 0.5 else slice(None)
            lines[line, where] = random.choice([np.nan, np.inf])
            if random.random() < 0.25:
                lines[line] = -np.inf
    return feeds


def moved_off_the_edges(feeds: Feeds) -> None:
    """Put every uniform that draws a token, and is too near to another one, into the middle of one."""
    accepted, starts = accept(**feeds).accepted, starts_of(feeds["verify_lengths"])
    for row in np.flatnonzero(feeds["temperature"] > 0):
        at, temperature = accepted[row], float(feeds["temperature"][row])
        weights = probabilities(feeds["logits"][starts[row] + at], temperature)
        if at < feeds["verify_lengths"][row]:
            weights = remainder(weights, probabilities(feeds["draft_logits"][row, at], temperature))
        feeds["uniforms"][row, at, 1] = off_the_edge(weights, feeds["uniforms"][row, at, 1])


def assert_same(feeds: Feeds, actual: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> int:
    """(accepted, next_ids) are equal, but for rows on the edge of a decision, which are counted."""
    for one, other in zip(actual, expected, strict=True):
        assert one.shape == other.shape == feeds["verify_lengths"].shape
        assert one.dtype == other.dtype == np.int64
    wrong = np.flatnonzero((actual[0] != expected[0]) | (actual[1] != expected[1]))
    for row in wrong:
        outcome = (int(actual[0][row]), int(actual[1][row]))
        assert on_the_edge(feeds, row, *outcome), (row, outcome, expected[0][row], expected[1][row])
    return len(wrong)


def on_the_edge(feeds: Feeds, row: int, accepted: int, next_id: int) -> bool:
    """Whether uniforms less than `NEAR` away lead to this outcome; a greedy row has no edges."""
    temperature, length = float(feeds["temperature"][row]), int(feeds["verify_lengths"][row])
    if temperature == 0 or not 0 <= accepted <= length:
        return False
    start, uniforms = starts_of(feeds["verify_lengths"])[row], feeds["uniforms"][row].astype(np.float64)
    p = probabilities(feeds["logits"][start : start + length + 1], temperature)
    q = probabilities(feeds["draft_logits"][row], temperature)
    for j in range(min(accepted + 1, length)):
        token, uniform = feeds["draft_ids"][row, j], uniforms[j, 0]
        nudged = uniform - NEAR if j < accepted else uniform + NEAR
        if stands(p[j, token], q[j, token], nudged) != (j < accepted):
            return False
    weights = remainder(p[accepted], q[accepted]) if accepted < length else p[accepted]
    cdf = np.concatenate([[0.0], np.cumsum(weights)])
    threshold = uniforms[accepted, 1] * cdf[-1]
    return bool(cdf[next_id] - NEAR <= threshold <= cdf[next_id + 1] + NEAR and p[accepted, next_id] > 0)
