"""Acceptance estimated from scores: planted models are found, and what is estimated can be calibrated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from dspark_calibration import CalibrationError, PromptTrace, TraceStore
from dspark_calibration.estimator import AcceptanceModel, design, estimated, fit_acceptance
from dspark_calibration.estimator.model import MOST
from dspark_calibration.metrics import mean_ece, noise_floor
from dspark_calibration.sts import confidences, fit_sts
from dspark_calibration.traces import load_rounds
from tests.support.rounds import header
from tests.support.scored_rounds import NAMES, Truth, scored_rounds

TRUTH = Truth()


def test_a_planted_model_is_found() -> None:
    model = fit_acceptance(scored_rounds(TRUTH, 40_000), NAMES)
    assert model.parameters == pytest.approx([*TRUTH.biases, *TRUTH.weights], abs=0.12)
    assert model.scores == list(NAMES)


def test_it_is_the_maximum_of_the_penalised_likelihood() -> None:
    """Its gradient is zero: Σ x (y - p) = parameters, the ridge being 1."""
    rounds = scored_rounds(TRUTH, 300)
    model = fit_acceptance(rounds, NAMES)
    p = confidences(model.logits(rounds.scores))
    gradient = np.einsum("ng,ngd->d", (rounds.survived - p) * rounds.reached, design(rounds.scores))
    assert gradient == pytest.approx(model.parameters, abs=1e-4)


def test_only_positions_that_were_reached_count() -> None:
    rounds = scored_rounds(TRUTH, 500)
    spoiled = np.where(rounds.reached[..., None], rounds.scores, 7.0)
    assert fit_acceptance(replace(rounds, scores=spoiled), NAMES) == fit_acceptance(rounds, NAMES)


@pytest.mark.parametrize("accepted", [0, 4])
def test_outcomes_that_are_all_alike_stay_finite(accepted: int) -> None:
    rounds = scored_rounds(TRUTH, 400)
    model = fit_acceptance(replace(rounds, accepted=np.full(400, accepted)), NAMES)
    p = confidences(model.logits(rounds.scores))
    assert np.isfinite(model.parameters).all()
    assert (p.mean(axis=0) > 0.95).all() if accepted else p[:, 0].mean() < 0.05


def test_estimates_are_calibrated_on_rounds_that_were_not_fitted() -> None:
    fit, held_out = scored_rounds(TRUTH, 20_000), scored_rounds(TRUTH, 20_000, seed=7)
    model = fit_acceptance(fit, NAMES)
    found = confidences(estimated(held_out, model).logits)
    assert mean_ece(found, held_out) < 1.5 * noise_floor(found)


def test_temperatures_go_on_top_of_a_model_of_the_wrong_kind() -> None:
    """Acceptance saturates at 0.7 here, which no logistic model says of itself."""
    random = np.random.default_rng(3)
    rounds = scored_rounds(TRUTH, 20_000)
    kept = np.cumprod(random.random(rounds.logits.shape) < 0.7, axis=1).sum(axis=1)
    rounds = estimated(replace(rounds, accepted=np.minimum(rounds.accepted, kept)), None)
    rounds = estimated(rounds, fit_acceptance(rounds, NAMES))
    raw = mean_ece(confidences(rounds.logits), rounds)
    scaled = mean_ece(confidences(rounds.logits / np.array(fit_sts(rounds, 4))), rounds)
    assert scaled <= raw < 0.05


def test_infinite_scores_are_bounded_and_nan_is_passed_on() -> None:
    said = np.array([[[-np.inf, np.inf], [np.nan, 0.0]]])
    assert design(said)[0, 0].tolist() == [1, 0, -MOST, MOST]
    model = AcceptanceModel(scores=NAMES, biases=[0, 0], weights=[1, 1], information=np.eye(4).tolist(), rounds=1)
    assert np.isnan(model.logits(said)).tolist() == [[False, True]]


def test_what_is_no_model() -> None:
    good = fit_acceptance(scored_rounds(TRUTH, 100), NAMES).model_dump()
    for change in ({"weights": [1.0]}, {"information": [[1.0]]}, {"biases": [float("nan")] * 4}, {"scores": []}):
        with pytest.raises(ValidationError):
            AcceptanceModel(**good | change)


def test_rounds_without_scores_are_refused() -> None:
    rounds = scored_rounds(TRUTH, 100)
    for without in (replace(rounds, scores=None), replace(rounds, scores=rounds.scores[..., :1])):
        with pytest.raises(CalibrationError, match=r"no scores \(log_probability, margin\)"):
            fit_acceptance(without, NAMES)
    with pytest.raises(CalibrationError, match="no round verified its whole block"):
        fit_acceptance(rounds.take(np.arange(0)), NAMES)


def scored_trace(proposed: list[int], seed: int) -> PromptTrace:
    n, random = len(proposed), np.random.default_rng(seed)
    logits = np.where(np.array(proposed)[:, None] > 0, np.inf, -np.inf).repeat(3, axis=1).astype(np.float32)
    said = random.normal(size=(n, 3, 2)).astype(np.float32)
    counts = np.array(proposed, np.int16)
    return PromptTrace(logits, counts, counts // 2, np.arange(n, dtype=np.int32), said)


def test_traces_keep_scores_and_tell_what_is_left_out(tmp_path: Path) -> None:
    store = TraceStore.create(tmp_path, header(2, scores=list(NAMES)))
    traces = [scored_trace([3, 0, 3, 2], 0), scored_trace([], 1)]
    for index, trace in enumerate(traces):
        store.write(index, trace)
    rounds = load_rounds(TraceStore.open(tmp_path))
    assert (len(rounds), rounds.cut, rounds.empty) == (2, 1, 1)
    np.testing.assert_array_equal(rounds.scores, traces[0].scores[[0, 2]])
    np.testing.assert_array_equal(rounds.of([0]).take(np.array([1])).scores, traces[0].scores[[2]])


@pytest.mark.parametrize(
    ("names", "scores", "message"),
    [
        (NAMES, None, "has not 2 scores for each position"),
        (NAMES[:1], np.zeros((4, 3, 2), np.float32), "has not 1 scores for each position"),
        ((), np.zeros((4, 3, 2), np.float32), "has not 0 scores for each position"),
        (NAMES, np.full((4, 3, 2), np.nan, np.float32), "has scores that are NaN"),
    ],
)
def test_traces_whose_scores_are_unsound(
    tmp_path: Path, names: tuple[str, ...], scores: np.ndarray | None, message: str
) -> None:
    store = TraceStore.create(tmp_path, header(1, scores=list(names)))
    with pytest.raises(CalibrationError, match=message):
        store.write(0, replace(scored_trace([3, 3, 3, 2], 0), scores=scores))
