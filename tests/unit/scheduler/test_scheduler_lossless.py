"""Speculation keeps the target's distribution: enumerated exactly on small models, and counted by the audit."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspark_engines.arrays import Doubles, Ints
from dspark_engines.measured import StepCost
from dspark_engines.scheduler import AsyncSpec, FixedSpec, Scheduler, SchedulerSpec, get_scheduler
from dspark_engines.scheduler.arrays import admit, last_admitted, rank, throughput
from dspark_engines.scheduler.base import Step
from dspark_export.checks.audit import TOKENS, VOCABULARY, AuditResult, audit, run_audit, sampling_bound
from tests.support.laws import Row, joint_law, plan_once, product_of_truths, random_cost, random_row

NAMES = ("fixed", "threshold", "algorithm1", "async")


class LiveSearch(Scheduler):
    """The faulty one: the best budget by the confidences of the very tokens that it is about."""

    uses_cost = True

    def _lengths(self, step: Step) -> Ints:
        ranked = rank(np, step.survival, step.anchors)
        budget = np.argmax(throughput(np, ranked, step.sps), axis=-1)
        return np.asarray(admit(np, step.survival, budget, last_admitted(np, ranked, budget)), np.int64)


def plan_after(scheduler: Scheduler, past: list[Doubles], survival: Doubles) -> Ints:
    """The same behind steps with the survivals `past` [R, γ], whatever is drafted now."""
    for earlier in past:
        plan_once(scheduler, np.broadcast_to(earlier, survival.shape).copy())
    return plan_once(scheduler, survival)


# The counter-example of a search on live confidences.

A, B = 0, 1
COUNTER = Row(
    p=[np.array([0.7, 0.3]), np.array([[0.7, 0.3]] * 2), np.array([[[0.7, 0.3]] * 2] * 2)],
    q=[np.array([0.5, 0.5]), np.array([[0.5, 0.5]] * 2)],
    confidence=[np.array(0.8), np.array([0.9, 0.0])],
)
COUNTER_COST = StepCost([(1, 1.0), (2, 1 / 0.5), (3, 1 / 0.45)])


def first_token(scheduler: Scheduler) -> Doubles:
    return joint_law([COUNTER], partial(plan_once, scheduler)).sum(axis=(1, 2))


def test_a_search_on_live_confidences_is_biased() -> None:
    assert first_token(LiveSearch(COUNTER_COST)) == pytest.approx([0.85, 0.15], abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_counter_example_comes_out_right(name: str) -> None:
    assert first_token(get_scheduler(name, COUNTER_COST)) == pytest.approx([0.7, 0.3], abs=1e-12)


def test_the_counter_example_makes_the_schedulers_differ() -> None:
    """Or the tests above would show nothing: behind B the second token has no chance."""
    survival = np.array([[COUNTER.survival((A, A))], [COUNTER.survival((B, A))]])
    plans = {name: plan_once(get_scheduler(name, COUNTER_COST), survival).tolist() for name in NAMES}
    assert plans == {"fixed": [[2], [1]], "threshold": [[2], [1]], "algorithm1": [[0], [0]], "async": [[2], [1]]}
    assert plan_once(LiveSearch(COUNTER_COST), survival).tolist() == [[2], [0]]


# Any model, two rows, exactly.


SPECS: list[SchedulerSpec | str] = [*NAMES, FixedSpec(1), AsyncSpec(1)]


@pytest.mark.parametrize("spec", SPECS, ids=str)
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_two_rows_together_come_out_as_the_target_says(spec: SchedulerSpec | str, seed: int) -> None:
    """Jointly, to rounding: neither does a row lose its distribution nor do the rows come to depend on each other."""
    random = np.random.default_rng(seed)
    rows, cost = [random_row(random, 2, 2) for _ in range(2)], random_cost(random, 6)
    past = [random.choice([0.1, 0.6, 1.0], size=(2, 2)).cumprod(axis=1) for _ in range(2)]
    law = joint_law(rows, partial(plan_after, get_scheduler(spec, cost), past))
    assert np.abs(law - product_of_truths(rows)).max() < 1e-12


def test_the_enumeration_finds_the_bias_of_a_live_search() -> None:
    errors = []
    for seed in range(100):
        random = np.random.default_rng(seed)
        rows, cost = [random_row(random, 2, 2) for _ in range(2)], random_cost(random, 6)
        law = joint_law(rows, partial(plan_once, LiveSearch(cost)))
        errors.append(0.5 * np.abs(law - product_of_truths(rows)).sum())
    assert np.mean(np.array(errors) > 0.01) > 0.1


# The audit.


def check(result: AuditResult, rounds: int) -> None:
    assert result.rounds >= rounds
    assert 0.0 < result.bound < 2.0 * np.sqrt(VOCABULARY**TOKENS / result.requests)
    assert result.passed, result


@pytest.mark.parametrize("name", NAMES)
def test_the_audit_passes(name: str) -> None:
    check(run_audit(name, 200_000, seed=1), 200_000)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_full_audit_passes(name: str) -> None:
    check(run_audit(name, 1_000_000, seed=2), 1_000_000)


def test_the_audit_finds_the_bias_of_a_live_search() -> None:
    result = audit("live", LiveSearch, 200_000, seed=1)
    assert not result.passed
    assert result.total_variation > 1.5 * result.bound


def test_the_audit_is_repeatable_and_reports_its_progress() -> None:
    shares: list[float] = []
    result = run_audit("async", 20_000, 3, shares.append)
    assert result == run_audit("async", 20_000, 3)
    assert result != run_audit("async", 20_000, 4)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_the_bound_is_the_samplings() -> None:
    """About one in a thousand samples of the law itself lies above."""
    law = np.array([0.5, 0.3, 0.15, 0.05])
    bound = sampling_bound(law, 1000)
    counts = np.random.default_rng(7).multinomial(1000, law, size=20_000)
    above = (0.5 * np.abs(counts / 1000 - law).sum(axis=1) > bound).mean()
    assert 0.0003 < above < 0.003


def test_nan_does_not_pass() -> None:
    assert not AuditResult("x", 1, 1, float("nan"), 1.0).passed
