"""Estimates while serving: they follow what rounds show, whatever the scheduler let them see, and stay lossless."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspark_calibration.estimator import AcceptanceModel, estimated, fit_acceptance
from dspark_calibration.metrics import log_loss
from dspark_calibration.sts import Scaling, confidences, sigmoid
from dspark_engines import GenerationRequest, GenerationResult
from dspark_engines.measured import StepCost
from dspark_engines.runtime.round.draft_step import prefix_survival
from dspark_engines.runtime.round.estimator import FARTHEST, OPTIMISTIC, AcceptanceEstimator, AcceptancePrior
from dspark_engines.runtime.round.runner import RoundRunner
from dspark_engines.runtime.round.state import RequestState
from dspark_engines.runtime.round.verify_step import Outcome
from dspark_engines.scheduler import Algorithm1Spec, AsyncSpec, FixedSpec, Scheduler, ThresholdSpec, get_scheduler
from dspark_plugins.accept import BROKEN
from tests.support.fake_engines import Language, fake_engines, fake_manifest
from tests.support.scored_rounds import NAMES, Truth, scored_rounds

BEFORE = Truth()
AFTER = Truth(biases=(-1.5, -1.0, -1.5, -1.0), weights=(-0.2, 1.0))
BLOCK = len(BEFORE.biases)
COST = StepCost([(1, 1.0), (5, 1.3)])
SCHEDULERS = [FixedSpec(), FixedSpec(2), ThresholdSpec(0.4), Algorithm1Spec(), AsyncSpec()]


@pytest.fixture(scope="module")
def model() -> AcceptanceModel:
    return fit_acceptance(scored_rounds(BEFORE, 10_000), NAMES)


def serve(estimator: AcceptanceEstimator, truth: Truth, rounds: int, scheduler: Scheduler, seed: int = 5) -> list[int]:
    """Rounds of one request after another, verified as far as the scheduler says; the lengths."""
    served, lengths = scored_rounds(truth, rounds, seed), []
    for index in range(rounds):
        scores = served.scores[index : index + 1]
        length = scheduler.plan(prefix_survival(estimator.logits(scores)), np.array([0]))
        accepted = np.minimum(served.accepted[index : index + 1], length)
        estimator.learn(scores, length, accepted)
        lengths.append(int(length[0]))
    return lengths


def losses(estimator: AcceptanceEstimator, truth: Truth) -> tuple[float, float]:
    """Log-loss of the estimates on new rounds, and of the truth itself."""
    rounds = scored_rounds(truth, 5000, seed=99)
    outcome = rounds.survived[rounds.reached].astype(float)
    forms = (estimator.logits(rounds.scores), truth.log_odds(rounds.scores))
    found, right = (log_loss(sigmoid(form[rounds.reached].astype(float)), outcome) for form in forms)
    return found, right


@pytest.mark.parametrize("spec", SCHEDULERS, ids=str)
def test_it_follows_a_shift_under_every_scheduler(model: AcceptanceModel, spec: object) -> None:
    """Positions that a scheduler cuts teach nothing; what the others show is unbiased, whoever chose them."""
    estimator = AcceptanceEstimator(AcceptancePrior.fitted(model))
    before, right = losses(estimator, AFTER)
    serve(estimator, AFTER, 1500, get_scheduler(spec, COST))  # type: ignore[arg-type]  # a parameter
    after, _ = losses(estimator, AFTER)
    assert before > right + 0.1
    assert after < right + 0.5 * (before - right)


def test_without_a_shift_it_stays_where_it_was(model: AcceptanceModel) -> None:
    estimator = AcceptanceEstimator(AcceptancePrior.fitted(model))
    serve(estimator, BEFORE, 1500, get_scheduler("fixed"))
    found, right = losses(estimator, BEFORE)
    assert found < right + 0.01


def test_without_a_calibration_it_learns_from_nothing() -> None:
    estimator = AcceptanceEstimator(AcceptancePrior.unfitted(BLOCK, len(NAMES)))
    assert sigmoid(estimator.logits(np.zeros((1, BLOCK, 2))).astype(float)) == pytest.approx(OPTIMISTIC)
    serve(estimator, BEFORE, 1500, get_scheduler("fixed"))
    found, right = losses(estimator, BEFORE)
    assert found < right + 0.02


def test_what_was_measured_is_where_it_begins() -> None:
    survival = (0.8, 0.4, 0.1, 0.0)
    estimator = AcceptanceEstimator(AcceptancePrior.unfitted(BLOCK, 2, survival))
    found = prefix_survival(estimator.logits(np.zeros((1, BLOCK, 2), np.float32)))
    assert found[0] == pytest.approx(survival, abs=0.003)


def test_what_is_given_up_is_tried_again(model: AcceptanceModel) -> None:
    """A time in which nothing is accepted; then drafts are as good as they were."""
    estimator, scheduler = AcceptanceEstimator(AcceptancePrior.fitted(model)), get_scheduler(ThresholdSpec(0.5))
    never = Truth(biases=(-9.0,) * BLOCK, weights=(0.0, 0.0))
    usual = np.mean(serve(estimator, BEFORE, 300, scheduler))
    given_up = serve(estimator, never, 1500, scheduler)
    assert np.mean(given_up[-300:]) < 0.3 * usual
    again = serve(estimator, BEFORE, 3000, scheduler)
    assert np.mean(again[-300:]) > 0.8 * usual


def test_the_scaled_confidence_is_what_is_made_to_fit(model: AcceptanceModel) -> None:
    scaling = Scaling((2.0,) * BLOCK, (0.7,) * BLOCK)
    estimator = AcceptanceEstimator(AcceptancePrior.fitted(model), scaling)
    serve(estimator, BEFORE, 4000, get_scheduler("fixed"))
    rounds = scored_rounds(BEFORE, 5000, seed=99)
    found = confidences(estimator.logits(rounds.scores).astype(float), scaling)
    assert found[:, 0].mean() == pytest.approx(rounds.survived[:, 0].mean(), abs=0.05)


def test_surprises_are_bounded(model: AcceptanceModel) -> None:
    estimator = AcceptanceEstimator(AcceptancePrior.fitted(model))
    scores = np.full((8, BLOCK, 2), np.inf, np.float32)
    for accepted in (0, BLOCK):
        for _ in range(400):
            estimator.learn(scores, np.full(8, BLOCK), np.full(8, accepted))
        assert np.abs(estimator.parameters - model.parameters).max() <= FARTHEST
        assert np.isfinite(estimator.logits(scores)).all()


def test_rows_of_one_round_teach_as_rounds_of_one_row() -> None:
    rounds = scored_rounds(BEFORE, 8)
    many = AcceptanceEstimator(AcceptancePrior.unfitted(BLOCK, 2))
    many.learn(rounds.scores, np.full(8, BLOCK), rounds.accepted)
    one = AcceptanceEstimator(AcceptancePrior.unfitted(BLOCK, 2))
    for index in range(8):
        one.learn(rounds.scores[index : index + 1], np.array([BLOCK]), rounds.accepted[index : index + 1])
    assert many.parameters == pytest.approx(one.parameters, abs=0.5)


@given(verified=st.integers(0, BLOCK), accepted=st.integers(0, BLOCK))
@settings(max_examples=30, deadline=None)
def test_positions_that_were_not_verified_teach_nothing(verified: int, accepted: int) -> None:
    accepted = min(accepted, verified)
    rounds, found = scored_rounds(BEFORE, 1), []
    judged = min(accepted + 1, verified)
    for unseen in (0.0, 5.0, np.nan):
        scores = rounds.scores.copy()
        scores[:, judged:] = unseen
        estimator = AcceptanceEstimator(AcceptancePrior.unfitted(BLOCK, 2))
        estimator.learn(scores, np.array([verified]), np.array([accepted]))
        found.append(estimator.parameters.tolist())
    assert found[0] == found[1] == found[2]


def test_schedulers_read_estimates_as_confidences(model: AcceptanceModel) -> None:
    """A row whose drafter is sure is verified further than one whose drafter is not."""
    estimator = AcceptanceEstimator(AcceptancePrior.fitted(model))
    scores = np.array([[[0.0, 6.0]] * BLOCK, [[-6.0, 0.0]] * BLOCK], np.float32)
    survival = prefix_survival(estimator.logits(scores))
    for spec in (ThresholdSpec(0.4), Algorithm1Spec()):
        lengths = get_scheduler(spec, COST).plan(survival, np.array([0, 1]))
        assert lengths[0] > lengths[1]
    by_model = confidences(estimated(scored_rounds(BEFORE, 3), model).logits)
    now = sigmoid(estimator.logits(scored_rounds(BEFORE, 3).scores).astype(float))
    assert now == pytest.approx(by_model, abs=1e-6)


# In the rounds.


def test_a_target_that_broke_shows_only_what_it_had_accepted() -> None:
    seen: list[tuple[list[int], list[int]]] = []
    estimator: Any = SimpleNamespace(
        learn=lambda scores, verified, kept: seen.append((verified.tolist(), kept.tolist()))
    )
    engines = fake_engines(Language(), block=4, context=40, pattern=(2,))
    runner = RoundRunner(
        engines, fake_manifest(block=4, context=40, chunk=8), get_scheduler("fixed"), estimator=estimator
    )
    drafts: Any = SimpleNamespace(scores=np.zeros((2, 4, 1)))
    row: Any = None
    runner._learn(drafts, np.array([4, 4]), [Outcome(row, 2, BROKEN), Outcome(row, 1, 7)])
    assert seen == [([2, 4], [2, 1])]


@pytest.mark.parametrize("reads", [True, False])
def test_features_are_kept_for_those_who_read_them(reads: bool) -> None:
    request = GenerationRequest([5, 6, 7], 4)
    state = RequestState(request, GenerationResult(4), None, None, True, reads_features=reads)
    features = np.ones((3, 6), np.float32)
    state.keep_features(features)
    features.fill(np.nan)
    assert state.join_pending().tolist() == ([[1.0] * 6] * 3 if reads else [[]] * 3)
    state.mark_drafted()
    assert state.drafted == 3
