"""Figures and intervals against what they must be by hand, or by theory."""

from __future__ import annotations

import numpy as np
import pytest

from dspark_export.evaluating.statistics import (
    estimate_difference,
    estimate_geometric_mean,
    estimate_share,
    resample_counts,
)


def test_resamples_draw_as_many_prompts_as_there_are() -> None:
    counts = resample_counts(7)
    assert counts.shape == (2000, 7)
    assert (counts.sum(1) == 7).all()
    assert counts.mean() == pytest.approx(1.0)
    assert counts.var() == pytest.approx(6 / 7, rel=0.05)  # binomial: 7 draws, one in seven


def test_a_share_is_that_of_all_rounds_not_the_mean_of_prompts() -> None:
    measured = estimate_share([10.0, 30.0], [10.0, 10.0])
    assert measured is not None
    assert measured.value == 2.0
    assert (measured.low, measured.high) == (1.0, 3.0)
    assert estimate_share([10.0, 30.0], [10.0, 5.0]).value == pytest.approx(40 / 15)  # type: ignore[union-attr]


def test_prompts_without_rounds_count_for_nothing() -> None:
    assert estimate_share([0.0], [0.0]) is None
    assert estimate_share([], []) is None
    measured = estimate_share([6.0, 0.0, 0.0], [3.0, 0.0, 0.0])
    assert measured is not None
    assert (measured.value, measured.low, measured.high) == (2.0, 2.0, 2.0)


def test_a_geometric_mean_treats_twice_and_half_alike() -> None:
    measured = estimate_geometric_mean([2.0, 0.5])
    assert measured is not None
    assert measured.value == pytest.approx(1.0)
    assert measured.low * measured.high == pytest.approx(1.0)
    assert estimate_geometric_mean([]) is None


def test_the_interval_of_a_mean_is_what_theory_says() -> None:
    """Of many normal values, the standard error times 1.96 to either side."""
    logs = np.random.default_rng(3).normal(0.3, 0.2, 400)
    measured = estimate_geometric_mean(np.exp(logs).tolist())
    assert measured is not None
    error = 1.96 * logs.std() / np.sqrt(400)
    assert np.log(measured.low) == pytest.approx(logs.mean() - error, abs=0.1 * error)
    assert np.log(measured.high) == pytest.approx(logs.mean() + error, abs=0.1 * error)


def test_a_difference_is_paired() -> None:
    """Prompts differ much, the drafters by 0.5 on each: apart, their intervals overlap; on the same prompts nothing
    is left of what prompts differ in."""
    easy = [float(value) for value in (10, 50, 30, 20, 60, 40)]
    rounds = [10.0] * 6
    better = [value + 5.0 for value in easy]
    one, other = estimate_share(better, rounds), estimate_share(easy, rounds)
    assert one is not None
    assert other is not None
    assert one.low < other.high
    measured = estimate_difference((better, rounds), (easy, rounds))
    assert measured is not None
    assert (measured.value, measured.low, measured.high) == pytest.approx((0.5, 0.5, 0.5))
    assert measured.value == pytest.approx(one.value - other.value)
    assert estimate_difference((easy, rounds), ([0.0] * 6, [0.0] * 6)) is None
