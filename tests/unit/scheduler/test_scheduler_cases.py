"""Schedulers in cases told by hand: cliffs, ties, memory, and what is refused."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from dspark_engines.errors import DsparkError
from dspark_engines.measured import StepCost
from dspark_engines.scheduler import (
    Algorithm1Spec,
    AsyncSpec,
    FixedSpec,
    Scheduler,
    SchedulerSpec,
    ThresholdSpec,
    get_scheduler,
    scheduler_names,
)

LINEAR = StepCost([(1, 1.0), (64, 9.0)])
FLAT = StepCost([(1, 1.0), (64, 1.0)])
CLIFF = StepCost([(3, 1.0), (6, 1.2), (7, 2.0), (12, 2.1)])
SPECS: list[SchedulerSpec] = [FixedSpec(), FixedSpec(2), ThresholdSpec(0.5), Algorithm1Spec(), AsyncSpec()]


def test_algorithm1_stops_before_the_cliff_and_async_crosses_it() -> None:
    survival, ids = np.full((3, 3), 0.9).cumprod(axis=1), np.arange(3)
    assert get_scheduler("algorithm1", CLIFF).plan(survival, ids).tolist() == [1, 1, 1]
    asynchronous = get_scheduler("async", CLIFF)
    assert [asynchronous.plan(survival, ids).tolist() for _ in range(3)] == [[3, 3, 3]] * 3


@pytest.mark.parametrize("name", ["algorithm1", "async"])
def test_a_flat_table_admits_everything(name: str) -> None:
    survival = np.cumprod(np.random.default_rng(0).uniform(0.01, 1.0, (5, 7)), axis=1)
    scheduler = get_scheduler(name, FLAT)
    for _ in range(3):
        assert scheduler.plan(survival, np.arange(5), np.array([7, 0, 3, 7, 9])).tolist() == [7, 0, 3, 7, 7]


@pytest.mark.parametrize(("admitted", "lengths"), [(1, [1, 0, 0]), (3, [1, 1, 1]), (4, [2, 1, 1]), (5, [2, 2, 1])])
def test_ties_go_to_the_earlier_position_and_then_to_the_earlier_row(admitted: int, lengths: list[int]) -> None:
    last = 3 + admitted
    cost = StepCost([(last, 1.0), (last + 1, 9.0)])
    survival = np.ones((3, 2))
    assert get_scheduler("algorithm1", cost).plan(survival, np.arange(3)).tolist() == lengths
    assert get_scheduler("async", cost).plan(survival, np.arange(3)).tolist() == lengths


def test_the_budget_is_two_steps_old() -> None:
    """What step t shows is the budget of step t + 2."""
    cost, ids = StepCost([(1, 1.0), (3, 1.5)]), np.array([7])
    good, bad = np.array([[1.0, 1.0]]), np.array([[0.01, 0.01]])
    scheduler = get_scheduler("async", cost)
    plans = [int(scheduler.plan(survival, ids)[0]) for survival in (bad, good, good, bad, good, good)]
    assert plans == [2, 2, 0, 2, 2, 0]


def test_a_request_that_was_away_counts_as_fresh() -> None:
    cost, bad = StepCost([(1, 1.0), (3, 1.5)]), np.array([[0.01, 0.01]])
    scheduler = get_scheduler(AsyncSpec(1), cost)
    plans = [int(scheduler.plan(bad, np.array([request]))[0]) for request in (1, 1, 2, 1, 1)]
    assert plans == [2, 0, 2, 2, 0]


def test_a_row_that_did_not_speculate_is_unknown_afterwards() -> None:
    cost, ids, zero = StepCost([(1, 1.0), (3, 1.5)]), np.array([7]), np.zeros((1, 2))
    scheduler = get_scheduler(AsyncSpec(1), cost)
    assert scheduler.plan(zero, ids, np.array([0])).tolist() == [0]
    assert scheduler.plan(np.ones((1, 2)), ids, np.array([2])).tolist() == [2]


def test_what_is_remembered_is_a_copy() -> None:
    cost, ids, survival = StepCost([(1, 1.0), (3, 1.5)]), np.array([7]), np.array([[0.01, 0.01]])
    scheduler = get_scheduler(AsyncSpec(1), cost)
    scheduler.plan(survival, ids)
    survival[:], ids[:] = 1.0, 8
    assert scheduler.plan(np.ones((1, 2)), np.array([7])).tolist() == [0]


def test_a_step_may_have_its_own_cost() -> None:
    survival, ids = np.full((3, 3), 0.9).cumprod(axis=1), np.arange(3)
    assert get_scheduler("algorithm1", CLIFF).plan(survival, ids, cost=FLAT).tolist() == [3, 3, 3]


def test_other_tokens_move_the_cliff_nearer() -> None:
    survival, ids = np.full((3, 3), 0.9).cumprod(axis=1), np.arange(3)
    assert get_scheduler("algorithm1", CLIFF).plan(survival, ids, other_tokens=2).tolist() == [1, 0, 0]


def test_a_row_without_a_draft_is_a_row_that_may_verify_nothing() -> None:
    """And not just a token: the token that it gains whatever happens makes the others' gains smaller."""
    scheduler = get_scheduler("algorithm1", StepCost([(1, 1.0), (8, 2.4)]))
    survival, caps = np.array([[0.5, 0.3], [0.5, 0.3], [0.5, 0.3]]), np.array([2, 0, 0])
    among = scheduler.plan(survival, np.arange(3), caps)
    beside = scheduler.plan(survival[:1], np.arange(1), plain_rows=2)
    tokens = scheduler.plan(survival[:1], np.arange(1), other_tokens=2)
    assert (among.tolist(), beside.tolist(), tokens.tolist()) == ([1, 0, 0], [1], [2])


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize(("rows", "block"), [(0, 7), (3, 0), (0, 0)])
def test_nothing_to_decide(spec: SchedulerSpec, rows: int, block: int) -> None:
    plan = get_scheduler(spec, LINEAR).plan(np.empty((rows, block)), np.arange(rows))
    assert plan.tolist() == [0] * rows
    assert plan.dtype == np.int64


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_zero_is_never_admitted(spec: SchedulerSpec) -> None:
    survival = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert get_scheduler(spec, FLAT).plan(survival, np.arange(3)).tolist() == [1, 2, 0]


class Bad(NamedTuple):
    survival: list[list[float]]
    ids: list[int]
    caps: list[int]
    message: str


NAN, INF = float("nan"), float("inf")
BAD = [
    Bad([[NAN]], [0], [1], "survival"),
    Bad([[0.5, NAN]], [0], [2], "survival"),
    Bad([[NAN, 0.5]], [0], [2], "survival"),
    Bad([[0.9, NAN, 0.5]], [0], [3], "survival"),
    Bad([[0.9, NAN, 0.5]], [0], [0], "survival"),
    Bad([[0.9], [INF]], [0, 1], [1, 1], "survival"),
    Bad([[0.9, -INF]], [0], [2], "survival"),
    Bad([[1.1, 0.5]], [0], [2], "survival"),
    Bad([[0.5, -0.1]], [0], [2], "survival"),
    Bad([[0.5, 0.6]], [0], [2], "survival"),
    Bad([[0.5]], [0], [-1], "caps"),
    Bad([[0.5]], [0, 1], [1], "rows"),
    Bad([[0.5]], [0], [1, 1], "rows"),
]


@pytest.mark.parametrize("bad", BAD, ids=str)
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_bad_steps_are_refused(spec: SchedulerSpec, bad: Bad) -> None:
    with pytest.raises(ValueError, match=bad.message):
        get_scheduler(spec, LINEAR).plan(np.array(bad.survival), np.array(bad.ids), np.array(bad.caps))


def test_a_refused_step_leaves_no_trace() -> None:
    cost, ids, bad = StepCost([(1, 1.0), (3, 1.5)]), np.array([7]), np.array([[0.01, 0.01]])
    scheduler = get_scheduler("async", cost)
    plans = [scheduler.plan(bad, ids).tolist() for _ in range(2)]
    with pytest.raises(ValueError, match="survival"):
        scheduler.plan(np.array([[NAN, NAN]]), ids)
    assert [*plans, scheduler.plan(np.ones((1, 2)), ids).tolist()] == [[2], [2], [0]]


def test_names_come_from_the_registry() -> None:
    assert scheduler_names() == ("fixed", "threshold", "algorithm1", "async")
    for name in scheduler_names():
        assert isinstance(get_scheduler(name, LINEAR), Scheduler)
    with pytest.raises(DsparkError, match="greedy") as caught:
        get_scheduler("greedy")
    assert "algorithm1" in caught.value.hint


@pytest.mark.parametrize("name", ["algorithm1", "async"])
def test_without_a_cost_table(name: str) -> None:
    with pytest.raises(DsparkError, match="cost table") as caught:
        get_scheduler(name)
    assert "profile" in caught.value.hint


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (FixedSpec, -1),
        (ThresholdSpec, 0.0),
        (ThresholdSpec, 1.1),
        (ThresholdSpec, -0.5),
        (ThresholdSpec, NAN),
        (AsyncSpec, 0),
        (AsyncSpec, -1),
    ],
)
def test_bad_settings_are_refused(kind: type, value: float) -> None:
    with pytest.raises(DsparkError) as caught:
        kind(value)
    assert caught.value.hint
