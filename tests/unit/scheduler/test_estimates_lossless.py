"""Lengths by estimated confidences that learn from round to round keep the target's distribution."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspark_calibration.sts import sigmoid
from dspark_engines.runtime.round.estimator import AcceptanceEstimator, AcceptancePrior
from dspark_engines.scheduler import Algorithm1Spec, AsyncSpec, FixedSpec, ThresholdSpec, get_scheduler
from tests.support.laws import Row, joint_law, plan_once, product_of_truths, random_cost, random_row
from tests.support.scored_rounds import NAMES, Truth, scored_rounds

SCHEDULERS = [FixedSpec(), ThresholdSpec(0.4), Algorithm1Spec(), AsyncSpec()]


def test_a_confidence_knows_nothing_of_later_positions() -> None:
    rounds = scored_rounds(Truth(), 1)
    block = rounds.block_size
    estimator = AcceptanceEstimator(AcceptancePrior.unfitted(block, len(NAMES)))
    estimator.learn(rounds.scores, np.array([block]), rounds.accepted)
    for position in range(block):
        other = rounds.scores.copy()
        other[:, position + 1 :] += 3.0
        both = estimator.logits(rounds.scores), estimator.logits(other)
        assert both[0][0, : position + 1].tolist() == both[1][0, : position + 1].tolist()


@pytest.mark.parametrize("spec", SCHEDULERS, ids=str)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_lengths_by_estimates_that_have_learned_keep_the_target_s_distribution(spec: object, seed: int) -> None:
    """Exactly, two rows together: scores depend on the tokens before their position, and earlier rounds were any."""
    random = np.random.default_rng(seed)
    estimator = AcceptanceEstimator(AcceptancePrior.unfitted(2, 2))
    for _ in range(random.integers(0, 20)):
        scores, verified = random.normal(size=(2, 2, 2)), random.integers(0, 3, 2)
        estimator.learn(scores, verified, np.minimum(random.integers(0, 3, 2), verified))
    rows = [with_estimates(random_row(random, 2, 2), estimator, random) for _ in range(2)]
    scheduler = get_scheduler(spec, random_cost(random, 6))  # type: ignore[arg-type]  # a parameter
    law = joint_law(rows, partial(plan_once, scheduler))
    assert np.abs(law - product_of_truths(rows)).max() < 1e-12


def with_estimates(row: Row, estimator: AcceptanceEstimator, random: np.random.Generator) -> Row:
    """`row` with confidences estimated from scores that are drawn for every prefix."""
    scores = [random.normal(0, 2, size=(*shape.shape, 2)) for shape in row.confidence]
    blocks = [np.zeros((*part.shape[:-1], 2, 2)) for part in scores]
    for position, (block, part) in enumerate(zip(blocks, scores, strict=True)):
        block[..., position, :] = part
    found = [
        estimator.logits(block.reshape(-1, 2, 2))[:, j].reshape(block.shape[:-2]) for j, block in enumerate(blocks)
    ]
    return row._replace(confidence=[sigmoid(logits.astype(float)) for logits in found])
