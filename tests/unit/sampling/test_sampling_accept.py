"""The runtime's form of `dspark::Accept` against the NumPy oracle, and what it does not look at."""

from __future__ import annotations

import numpy as np
import pytest

from dspark_engines.sampling import SamplingParams, accept_rows, truncate
from dspark_engines.sampling.accept import TILE
from dspark_plugins.accept import BROKEN
from dspark_plugins.accept.reference import accept, draw, probabilities
from tests.support.accept_cases import LAST, ZERO, Feeds, assert_same, pack, random_case, spoiled_case, starts_of


def both(feeds: Feeds) -> tuple[np.ndarray, np.ndarray]:
    """Our result, which the oracle's equals."""
    result = accept_rows(**feeds)
    assert assert_same(feeds, result, accept(**feeds)) == 0
    return result


@pytest.mark.parametrize("vocab", [3, TILE - 1, TILE, TILE + 1, 1000])
@pytest.mark.parametrize("block", [1, 2, 7])
def test_it_matches_the_oracle(block: int, vocab: int) -> None:
    for rows in (1, 2, 5):
        for seed in range(8):
            feeds = random_case(rows, block, vocab, seed)
            both(feeds)
            for uniform in (ZERO, LAST):  # the edges themselves
                extreme = feeds | {"uniforms": np.full_like(feeds["uniforms"], uniform)}
                assert_same(extreme, accept_rows(**extreme), accept(**extreme))


@pytest.mark.parametrize("vocab", [3, 300])
def test_lines_without_a_finite_maximum_match_the_oracle(vocab: int) -> None:
    endings = {token for seed in range(30) for token in both(spoiled_case(6, 4, vocab, seed))[1].tolist()}
    assert BROKEN in endings
    assert len(endings) > 2


@pytest.mark.parametrize("truncation", [{"top_k": 2}, {"top_p": 0.7}, {"min_p": 0.1}], ids=str)
def test_truncation_leaves_a_broken_line_broken(truncation: dict[str, float]) -> None:
    for seed in range(10):
        feeds = spoiled_case(6, 4, 50, seed)
        params = [SamplingParams(float(heat), **truncation) for heat in feeds["temperature"]]
        starts = [*starts_of(feeds["verify_lengths"]), len(feeds["logits"])]
        cut = [
            truncate(feeds["logits"][start:end], p) for start, end, p in zip(starts, starts[1:], params, strict=False)
        ]
        expected = accept(**feeds | {"logits": np.concatenate(cut)})
        assert assert_same(feeds, accept_rows(**feeds, params=params), expected) == 0


def test_it_matches_the_oracle_over_a_real_vocabulary() -> None:
    """float32 weights here, float64 in the oracle: a uniform seldom falls between the two."""
    edges = drawn = 0
    for seed in range(6):
        feeds = random_case(4, 3, 49_152, seed, temperatures=(0.6, 1.0, 2.0))
        edges += assert_same(feeds, accept_rows(**feeds), accept(**feeds))
        drawn += 4
    assert edges <= drawn // 8


def test_edges_are_rare() -> None:
    edges = 0
    for seed in range(5):
        feeds = random_case(200, 7, 1000, seed, temperatures=(0.6, 1.0, 2.0))
        edges += assert_same(feeds, accept_rows(**feeds), accept(**feeds))
    assert edges <= 2


@pytest.mark.parametrize("vocab", [2, TILE, 1000])
def test_excluded_tokens_never_come_out(vocab: int) -> None:
    for seed, uniform in enumerate((ZERO, np.float32(0.4), LAST)):
        feeds = random_case(8, 3, vocab, seed, temperatures=(0.7, 1.0))
        feeds["logits"][:, ::2] = -np.inf
        feeds["uniforms"][:] = uniform
        accepted, following = both(feeds)
        assert (following % 2 == 1).all()
        for row, count in enumerate(accepted):
            assert (feeds["draft_ids"][row, :count] % 2 == 1).all()


def test_nothing_left_of_p_falls_back_to_p() -> None:
    logits = np.array([[-np.inf, 0.3, 1.0, -0.5]], np.float32)
    for change in (0.0, 0.1, [0, 0, 0, 5e-7]):  # exactly nothing, and roundings
        lines = logits + np.array(change, np.float32)
        for uniform in (ZERO, 0.2, 0.5, 0.9, LAST):
            feeds = random_case(1, 1, 4, 0, temperatures=(1.0,), lengths=[1])
            feeds |= {"logits": np.repeat(lines, 2, 0), "draft_logits": logits[None]}
            feeds |= {"draft_ids": np.array([[0]]), "uniforms": np.full((1, 2, 2), uniform, np.float32)}
            assert both(feeds) == (0, draw(probabilities(lines[0], 1.0), uniform))


def test_greedy_rows_take_the_first_of_equal_logits() -> None:
    random, seen = np.random.default_rng(0), set()
    for _ in range(50):
        feeds = random_case(1, 4, 6, 0, temperatures=(0.0,), lengths=[4])
        feeds["logits"] = random.integers(0, 3, (5, 6)).astype(np.float32)
        choices = [min(np.flatnonzero(row == row.max())) for row in feeds["logits"]]
        feeds["draft_ids"][0] = np.where(random.random(4) < 0.8, choices[:4], 5)
        accepted = next((j for j in range(4) if feeds["draft_ids"][0, j] != choices[j]), 4)
        assert both(feeds) == (accepted, choices[accepted])
        seen.add(accepted)
    assert seen == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("temperature", [0.0, 1e-42, 0.8, 1.0])
def test_rows_without_drafts_need_nothing_of_the_drafter(temperature: float) -> None:
    """As in a round with plain rows behind those that drafted: no draft logits, uniforms of the first position."""
    feeds = random_case(64, 2, 1000, 1, lengths=[2] * 8 + [0] * 56)
    feeds["temperature"][::2] = temperature
    whole = accept_rows(**feeds)
    assert whole.next_ids.dtype == np.int64
    np.testing.assert_array_equal(whole, accept_rows(**feeds | {"draft_logits": feeds["draft_logits"][:8]}))
    plain = {name: values[8:] for name, values in feeds.items()}
    plain |= {"logits": feeds["logits"][24:], "draft_logits": np.empty((0, 2, 0), np.float32)}
    plain["uniforms"] = plain["uniforms"][:, :1]
    np.testing.assert_array_equal(whole.next_ids[8:], accept_rows(**plain).next_ids)


def test_rows_that_are_looked_at_are_truncated() -> None:
    feeds = random_case(32, 7, 300, 2)
    params = [
        SamplingParams(float(temperature), top_k=row % 3 * 10, top_p=0.9)
        if row % 4
        else SamplingParams(float(temperature))
        for row, temperature in enumerate(feeds["temperature"])
    ]
    starts = starts_of(feeds["verify_lengths"])
    pieces = zip(np.split(feeds["logits"], starts[1:]), params, strict=True)
    truncated = feeds | {"logits": np.concatenate([truncate(piece, param) for piece, param in pieces])}
    lazily = accept_rows(**feeds, params=params)
    np.testing.assert_array_equal(lazily, both(truncated))
    assert not np.array_equal(lazily, both(feeds))


def test_nothing_behind_the_stop_is_looked_at() -> None:
    feeds = random_case(40, 7, 128, 3)
    expected = both(feeds)
    logits = np.full((40, 8, 128), np.nan, np.float32)
    logits[np.arange(8) <= feeds["verify_lengths"][:, None]] = feeds["logits"]
    for row, accepted in enumerate(expected[0]):
        seen = accepted if feeds["temperature"][row] else -1
        logits[row, accepted + 1 :] = np.nan
        feeds["draft_logits"][row, seen + 1 :] = np.nan
        feeds["uniforms"][row, seen + 1 :] = np.nan
    feeds["logits"] = pack(logits, feeds["verify_lengths"])
    assert np.isnan(feeds["logits"]).any()
    np.testing.assert_array_equal(accept_rows(**feeds), expected)


def test_inputs_are_not_changed() -> None:
    feeds = random_case(16, 3, 50, 4)
    before = {name: value.copy() for name, value in feeds.items()}
    for value in feeds.values():
        value.flags.writeable = False
    accept_rows(**feeds, params=[SamplingParams(temperature=1.0, top_k=5)] * 16)
    for name, value in feeds.items():
        np.testing.assert_array_equal(value, before[name])


def test_no_rows() -> None:
    accepted, following = accept_rows(**random_case(0, 3, 50, 5))
    assert len(accepted) == len(following) == 0
