"""Sequential temperature scaling: against a plain loop, against known answers, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from dspark_calibration import CalibrationError
from dspark_calibration.metrics import auroc, mean_ece
from dspark_calibration.sts import (
    GRID,
    Scaling,
    confidences,
    fit_positions,
    fit_scaling,
    fit_sts,
    refine,
    rounds_needed,
)
from dspark_calibration.sts.fit import fit_products
from dspark_export.calibrating.fitting import FitPlan, choose_scaling
from tests.support.rounds import context_and_prompt, draw, known_rounds

TEMPERATURES = (1.5, 0.7, 2.5, 1.0)
STEP = math.log(GRID[1] / GRID[0])
FINEST = STEP / 18
"""Neighbours on the last grid: twice, 13 points span two neighbours of the grid before."""


def sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def loop_error(earlier: list[float], logits: list[float], outcome: list[float], temperature: float, bins: int) -> float:
    sums = [0.0] * bins
    for before, logit, came in zip(earlier, logits, outcome, strict=True):
        p = before * sigmoid(logit / temperature)
        sums[min(int(p * bins), bins - 1)] += came - p
    return sum(map(abs, sums)) / len(logits)


@pytest.mark.parametrize(("count", "bins"), [(300, 20), (301, 7), (1, 20)])
def test_the_fit_is_a_plain_loop_over_the_same_grid(count: int, bins: int) -> None:
    rounds = known_rounds(count, TEMPERATURES, seed=count)
    outcomes = rounds.survived.astype(float)
    earlier, expected = [1.0] * count, []
    for j in range(len(TEMPERATURES)):
        column, came = rounds.logits[:, j].tolist(), outcomes[:, j].tolist()
        best = refine(lambda t, c=column, y=came, e=earlier: loop_error(e, c, y, t, bins))
        expected.append(best)
        earlier = [before * sigmoid(logit / best) for before, logit in zip(earlier, column, strict=True)]
    assert fit_products(rounds.logits, outcomes, bins) == pytest.approx(expected, rel=1e-12)


def test_a_search_takes_the_smallest_and_of_equals_the_one_nearest_to_one() -> None:
    assert refine(lambda t: 0.0) == pytest.approx(GRID[np.abs(np.log(GRID)).argmin()], rel=STEP)
    assert refine(lambda t: abs(math.log(t / 3.3))) == pytest.approx(3.3, rel=FINEST)
    assert refine(lambda t: t) == GRID[0]
    assert refine(lambda t: -t) == pytest.approx(GRID[-1])


def test_known_temperatures_are_found_within_the_grids_step() -> None:
    rounds = known_rounds(4000, TEMPERATURES)
    chances = np.cumprod(confidences(rounds.logits, Scaling.of(TEMPERATURES)), axis=1)
    exact = fit_products(rounds.logits, chances, 20)  # outcomes as expected: no noise
    assert np.log(exact) == pytest.approx(np.log(TEMPERATURES), abs=2 * FINEST)
    drawn = fit_sts(known_rounds(60_000, TEMPERATURES, seed=1), 4)
    assert np.log(drawn) == pytest.approx(np.log(TEMPERATURES), abs=STEP)


def test_order_and_ranking_stay() -> None:
    """Each position's own score keeps its AUROC, also where logits are extreme."""
    rounds = known_rounds(3000, TEMPERATURES, seed=2)
    rounds = replace(rounds, logits=rounds.logits * 4.0)
    for scaling in (Scaling.of(fit_sts(rounds, 4)), fit_scaling(rounds, 4)):
        before, after = confidences(rounds.logits), confidences(rounds.logits, scaling)
        for j in range(4):
            there = rounds.reached[:, j]
            outcome = rounds.survived[there, j].astype(float)
            assert auroc(after[there, j], outcome) == pytest.approx(auroc(before[there, j], outcome), abs=1e-6)


def test_sequential_scaling_makes_products_right() -> None:
    """When positions depend on each other, scaling each on its own leaves products wrong; in sequence it does not."""
    random = np.random.default_rng(5)
    hard = random.random(30_000) < 0.5  # what makes a text hard, and the drafter does not see
    logits = random.normal(1.0, 1.0, (30_000, 3))
    accepted = draw(np.where(hard[:, None], logits - 3.0, logits + 1.0), random)
    rounds = replace(known_rounds(30_000, (1.0,) * 3), logits=logits, accepted=accepted)
    alone, together = (
        mean_ece(confidences(logits, Scaling.of(fit(rounds, 3))), rounds) for fit in (fit_positions, fit_sts)
    )
    assert together < mean_ece(confidences(logits), rounds)
    assert together <= alone + 1e-3


def test_offsets_mend_what_temperatures_cannot() -> None:
    """Confidences above one half where fewer survive: no temperature moves them below it."""
    random = np.random.default_rng(6)
    logits = random.normal(1.5, 1.0, (20_000, 2))
    truth = Scaling((1.25, 0.8), (-1.8, -0.9))
    accepted = draw(logits / np.array(truth.temperatures) + np.array(truth.offsets), random)
    rounds = replace(known_rounds(20_000, (1.0, 1.0)), logits=logits, accepted=accepted)
    scaling = fit_scaling(rounds, 2)
    assert scaling.temperatures == pytest.approx(truth.temperatures, rel=0.1)
    assert scaling.offsets == pytest.approx(truth.offsets, abs=0.1)
    alone = mean_ece(confidences(logits, Scaling.of(fit_sts(rounds, 2))), rounds)
    assert mean_ece(confidences(logits, scaling), rounds) < 0.02 < alone


def test_offsets_stay_finite_where_nothing_or_everything_survives() -> None:
    rounds = known_rounds(400, (1.0, 1.0))
    for accepted in (0, 1, 2):
        scaling = fit_scaling(replace(rounds, accepted=np.full(400, accepted)), 2)
        assert np.isfinite(scaling.offsets).all()
        assert all(0.01 <= t <= 100.0 for t in scaling.temperatures)


@pytest.mark.parametrize("fit", [fit_sts, fit_positions, fit_scaling])
def test_what_no_fit_is_made_of(fit) -> None:
    rounds = known_rounds(rounds_needed(20), TEMPERATURES)
    fit(rounds, 4)
    with pytest.raises(CalibrationError, match="blocks of 4, the drafter's block is 7"):
        fit(rounds, 7)
    with pytest.raises(CalibrationError, match=r"199 rounds .* at least 200 are needed for 20 bins"):
        fit(rounds.take(np.arange(199)), 4)
    with pytest.raises(CalibrationError, match="confidences are NaN"):
        fit(replace(rounds, logits=np.where(rounds.logits > 3, np.nan, rounds.logits)), 4)
    with pytest.raises(CalibrationError, match="accept more than a block"):
        fit(replace(rounds, accepted=np.full(200, 5)), 4)


def test_extreme_logits_warn_of_nothing() -> None:
    count = 400
    logits = np.where(np.arange(count)[:, None] % 2 == 0, -80.0, 80.0) * np.ones((1, 2))
    context, prompt = context_and_prompt(count, 10)
    rounds = replace(known_rounds(count, (1.0, 1.0)), logits=logits, context=context, prompt=prompt)
    assert all(GRID[0] <= t <= GRID[-1] * (1 + 1e-12) for t in fit_sts(rounds, 2))


@pytest.mark.parametrize(("offset", "given"), [(0.0, False), (-1.8, True)])
def test_offsets_are_given_where_they_help_much(offset: float, given: bool) -> None:
    random = np.random.default_rng(7)
    logits = random.normal(1.5, 1.0, (8000, 2))
    rounds = replace(known_rounds(8000, (1.0, 1.0)), logits=logits, accepted=draw(logits / 1.5 + offset, random))
    alone = fit_sts(rounds, 2, 5)
    assert any(choose_scaling(rounds, alone, FitPlan(5)).offsets) is given
    assert not any(choose_scaling(rounds, alone, FitPlan(5, offsets="off")).offsets)
    assert any(choose_scaling(rounds, alone, FitPlan(5, offsets="on")).offsets)
