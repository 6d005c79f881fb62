"""Metrics against plain loops, at the sizes where they go wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dspark_calibration.metrics import (
    auroc,
    brier,
    ece,
    ece_equal_mass,
    interval,
    log_loss,
    mean_ece,
    noise_floor,
    reliability,
    resample_prompts,
    score_positions,
)
from dspark_calibration.sts import Scaling, confidences
from tests.support.rounds import known_rounds

SIZES = [1, 2, 7, 20, 21, 333]


def sample(size: int, *, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(size)
    p = random.choice([0.0, 0.25, 0.5, 1.0], size) if ties else random.random(size)
    return p, (random.random(size) < p).astype(float)


def ece_by_hand(p: np.ndarray, y: np.ndarray, bins: int) -> float:
    total = 0.0
    for b in range(bins):
        inside = [i for i in range(len(p)) if b == min(int(p[i] * bins), bins - 1)]
        if inside:
            came, said = sum(y[i] for i in inside) / len(inside), sum(p[i] for i in inside) / len(inside)
            total += abs(came - said) * len(inside)
    return total / len(p)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bins", [1, 2, 20])
def test_ece_is_the_loop(size: int, bins: int, ties: bool) -> None:
    p, y = sample(size, ties=ties)
    assert ece(p, y, bins) == pytest.approx(ece_by_hand(p, y, bins), abs=1e-12)
    bars = reliability(p, y, bins)
    assert sum(bar.size for bar in bars) == size
    assert sum(bar.size * abs(bar.outcome - bar.confidence) for bar in bars) / size == pytest.approx(ece(p, y, bins))


def test_equal_mass_bins_hold_equally_many_and_never_part_ties() -> None:
    p = np.linspace(0.0, 1.0, 40)
    y = np.where(np.arange(40) % 4 == 0, 1.0, 0.0)
    by_hand = sum(abs(float((y - p)[i : i + 4].sum())) for i in range(0, 40, 4)) / 40
    assert ece_equal_mass(p, y, 10) == pytest.approx(by_hand)
    tied, outcome = np.full(30, 0.5), np.array([0.0, 1.0] * 15)
    assert ece_equal_mass(tied, outcome, 10) == pytest.approx(0.0)
    assert ece_equal_mass(np.array([0.3]), np.array([1.0]), 20) == pytest.approx(0.7)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("size", [7, 20, 111])
def test_auroc_counts_pairs(size: int, ties: bool) -> None:
    p, y = sample(size, ties=ties)
    pairs = [(a > b) + 0.5 * (a == b) for a in p[y == 1] for b in p[y == 0]]
    assert auroc(p, y) == pytest.approx(np.mean(pairs))


def test_what_cannot_be_ranked_and_what_is_empty() -> None:
    assert auroc(np.array([0.1, 0.9]), np.array([1.0, 1.0])) is None
    nothing = np.empty(0)
    assert (ece(nothing, nothing), ece_equal_mass(nothing, nothing), brier(nothing, nothing)) == (0.0, 0.0, 0.0)
    assert (log_loss(nothing, nothing), auroc(nothing, nothing)) == (0.0, None)


def test_proper_scores() -> None:
    p, y = np.array([0.8, 0.4]), np.array([1.0, 0.0])
    assert brier(p, y) == pytest.approx((0.04 + 0.16) / 2)
    assert log_loss(p, y) == pytest.approx(-(math.log(0.8) + math.log(0.6)) / 2)
    assert math.isfinite(log_loss(np.array([0.0, 1.0]), np.array([1.0, 0.0])))


def test_right_confidences_show_the_noise_floor_and_nothing_more() -> None:
    temperatures = (1.5, 0.8, 2.0)
    rounds = known_rounds(4000, temperatures)
    right = confidences(rounds.logits, Scaling.of(temperatures))
    floor = noise_floor(right)
    assert mean_ece(right, rounds) == pytest.approx(floor, rel=0.5)
    assert mean_ece(confidences(rounds.logits), rounds) > 1.5 * floor
    assert noise_floor(right) == floor  # the same every time


def test_scores_of_positions_are_those_of_their_columns() -> None:
    rounds = known_rounds(500, (1.0, 1.0, 1.0))
    own = confidences(rounds.logits)
    scores = score_positions(own, rounds, 10)
    survived = (rounds.accepted[:, None] > np.arange(3)).astype(float)
    survival = own[:, 0] * own[:, 1]
    assert scores[1].ece == ece(survival, survived[:, 1], 10)
    assert scores[1].brier == brier(survival, survived[:, 1])
    there = rounds.accepted >= 1
    assert scores[1].own_auroc == auroc(own[there, 1], survived[there, 1])


def test_resamples_take_whole_prompts() -> None:
    rounds = known_rounds(200, (1.0,), per_prompt=10)
    for resample in resample_prompts(rounds, 5, seed=3):
        assert len(resample) == 200
        counts = np.bincount(resample.prompt, minlength=20)
        assert (counts % 10 == 0).all()
        assert counts.max() > 10  # with replacement
    assert {len(r) for r in resample_prompts(rounds, 5, size=57)} == {60}
    first, again = (next(resample_prompts(rounds, 1)) for _ in range(2))
    np.testing.assert_array_equal(first.logits, again.logits)


def test_intervals_hold_the_middle() -> None:
    assert interval(np.arange(1001.0).tolist()) == pytest.approx((25.0, 975.0))
