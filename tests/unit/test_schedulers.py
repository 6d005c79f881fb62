"""Schedulers against loops that say what they do, and the properties that must hold for all of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspark_engines.errors import DsparkError
from dspark_engines.scheduler import (
    Algorithm1Spec,
    AsyncSpec,
    FixedSpec,
    Scheduler,
    SchedulerSpec,
    StepCost,
    ThresholdSpec,
    algorithm1_array,
    get_scheduler,
    scheduler_names,
)
from dspark_engines.scheduler.arrays import Doubles, Ints, admit, rank

LINEAR = StepCost([(1, 1.0), (64, 9.0)])
FLAT = StepCost([(1, 1.0), (64, 1.0)])
SPECS: list[SchedulerSpec] = [FixedSpec(), FixedSpec(2), ThresholdSpec(0.5), Algorithm1Spec(), AsyncSpec()]
Candidate = tuple[float, int, int]


# What the schedulers do, in loops.


def candidates(survival: Doubles, caps: Ints) -> list[Candidate]:
    """(-a, j, r) of all that may be admitted, in the order of admission."""
    rows, block = survival.shape
    every = [(-survival[r, j], j, r) for r in range(rows) for j in range(block) if j < caps[r] and survival[r, j] > 0]
    return sorted(every)


def lengths_of(admitted: Sequence[Candidate], rows: int) -> list[int]:
    """Row by row how many were admitted; they must be a prefix."""
    taken = [[j for _, j, row in admitted if row == r] for r in range(rows)]
    assert all(sorted(js) == list(range(len(js))) for js in taken)
    return [len(js) for js in taken]


def algorithm1_loop(survival: Doubles, caps: Ints, sps: Doubles) -> list[int]:
    """The paper's loop; sps[k] is SPS(R + k)."""
    tau, admitted = float(len(survival)), list[Candidate]()
    best = tau * sps[0]
    for candidate in candidates(survival, caps):
        tau -= candidate[0]
        theta = tau * sps[len(admitted) + 1]
        if theta <= best:
            break
        best = theta
        admitted.append(candidate)
    return lengths_of(admitted, len(survival))


def budget_loop(survival: Doubles, caps: Ints, sps: Doubles) -> int:
    """The smallest of the best numbers of candidates to admit."""
    tau, best, budget = float(len(survival)), len(survival) * sps[0], 0
    for count, candidate in enumerate(candidates(survival, caps), 1):
        tau -= candidate[0]
        if tau * sps[count] > best:
            best, budget = tau * sps[count], count
    return budget


class AsyncLoop:
    """The asynchronous scheduler with a dictionary for each step that went by."""

    def __init__(self, delay: int, cost: StepCost) -> None:
        self.delay, self.cost, self.history = delay, cost, list[dict[int, Doubles]]()

    def plan(self, survival: Doubles, ids: Ints, caps: Ints) -> list[int]:
        earlier = self.history[-self.delay] if len(self.history) >= self.delay else {}
        old = np.array([earlier.get(int(i), np.ones(survival.shape[1])) for i in ids]).reshape(survival.shape)
        sps = self.cost.sps(len(survival) + np.arange(1 + survival.size))
        budget = budget_loop(old, caps, sps)
        self.history.append({int(i): row.copy() for i, row, cap in zip(ids, survival, caps, strict=True) if cap > 0})
        return lengths_of(candidates(survival, caps)[:budget], len(survival))


# Strategies: few distinct values, so that there are ties, ones and zeros; and costs with cliffs and plateaus.

CONFIDENCES = st.sampled_from([0.0, 0.25, 0.5, 0.5, 0.9, 1.0, 1.0]) | st.floats(0.0, 1.0)


@st.composite
def steps(draw: st.DrawFn, block: int | None = None) -> tuple[Doubles, Ints]:
    rows = draw(st.integers(1, 6))
    block = block or draw(st.integers(1, 5))
    confidences = draw(st.lists(CONFIDENCES, min_size=rows * block, max_size=rows * block))
    caps = draw(st.lists(st.integers(0, block + 1), min_size=rows, max_size=rows))
    return np.cumprod(np.reshape(confidences, (rows, block)), axis=1), np.array(caps, np.int64)


@st.composite
def costs(draw: st.DrawFn) -> StepCost:
    rises = draw(st.lists(st.sampled_from([0.0, 0.0, 0.05, 0.2, 2.0]), min_size=1, max_size=36))
    between = draw(st.sampled_from(["linear", "stairs"]))
    gaps = draw(st.lists(st.integers(1, 4), min_size=len(rises), max_size=len(rises)))
    return StepCost(zip(np.cumsum(gaps).tolist(), 1.0 + np.cumsum(rises), strict=True), between=between)


@given(steps(), costs(), st.integers(0, 3))
def test_algorithm1_is_the_papers_loop(step: tuple[Doubles, Ints], cost: StepCost, others: int) -> None:
    survival, caps = step
    rows = len(survival)
    sps = cost.sps(rows + others + np.arange(1 + survival.size))
    plan = get_scheduler("algorithm1", cost).plan(survival, np.arange(rows), caps, other_tokens=others)
    assert plan.tolist() == algorithm1_loop(survival, caps, sps)
    assert plan.dtype == np.int64


@given(steps(), costs())
def test_the_array_form_needs_nothing_but_array_operations(step: tuple[Doubles, Ints], cost: StepCost) -> None:
    names = ("full", "ones", "concatenate", "sort", "cumsum", "argmax", "take_along_axis", "swapaxes")
    device = SimpleNamespace(**{name: getattr(np, name) for name in names})
    survival, _ = step
    rows, block = survival.shape
    sps = cost.sps(rows + np.arange(1 + survival.size))
    expected = algorithm1_loop(survival, np.full(rows, block), sps)
    assert algorithm1_array(device, survival, sps).tolist() == expected


@given(steps(), st.integers(0, 30))
def test_admission_takes_the_first_in_order(step: tuple[Doubles, Ints], budget: int) -> None:
    survival, _ = step
    rows, block = survival.shape
    order = candidates(survival, np.full(rows, block))
    budget = min(budget, len(order))
    by_position = np.ascontiguousarray(survival.T)
    plan = admit(np, by_position, rank(np, by_position), np.asarray(budget))
    assert plan.tolist() == lengths_of(order[:budget], rows)


@given(st.data(), costs(), st.integers(1, 3))
def test_async_is_its_loop_while_requests_come_and_go(data: st.DataObject, cost: StepCost, delay: int) -> None:
    scheduler, loop = get_scheduler(AsyncSpec(delay), cost), AsyncLoop(delay, cost)
    for _ in range(data.draw(st.integers(1, 6))):
        survival, caps = data.draw(steps(block=3))
        ids = np.array(data.draw(st.permutations(range(8))))[: len(survival)]
        assert scheduler.plan(survival, ids, caps).tolist() == loop.plan(survival, ids, caps)


@given(steps(), st.floats(0.01, 1.0), st.none() | st.integers(0, 7))
def test_threshold_and_fixed_are_their_loops(step: tuple[Doubles, Ints], minimum: float, length: int | None) -> None:
    survival, caps = step
    order, rows = candidates(survival, caps), len(survival)
    ids = np.arange(rows)
    above = lengths_of([c for c in order if -c[0] >= minimum], rows)
    assert get_scheduler(ThresholdSpec(minimum)).plan(survival, ids, caps).tolist() == above
    first = lengths_of([c for c in order if length is None or c[1] < length], rows)
    assert get_scheduler(FixedSpec(length)).plan(survival, ids, caps).tolist() == first


@pytest.mark.parametrize("spec", SPECS, ids=str)
@given(data=st.data())
def test_stacked_steps_are_the_steps_one_by_one(spec: SchedulerSpec, data: st.DataObject) -> None:
    """Three servers in lock step, over four steps, against three schedulers of their own."""
    cost = data.draw(costs())
    together, alone = get_scheduler(spec, cost), [get_scheduler(spec, cost) for _ in range(3)]
    confidences = st.lists(CONFIDENCES, min_size=3 * 2 * 3, max_size=3 * 2 * 3)
    ids = np.array([[0, 1], [2, 3], [4, 5]])
    for turn in range(4):
        survival = np.cumprod(np.reshape(data.draw(confidences), (3, 2, 3)), axis=-1)
        caps = np.array(data.draw(st.lists(st.integers(0, 3), min_size=6, max_size=6))).reshape(3, 2)
        plans = [s.plan(*question) for s, *question in zip(alone, survival, ids, caps, strict=True)]
        assert np.array_equal(together.plan(survival, ids, caps), plans)
        ids = ids[:, ::-1] if turn % 2 else np.where(ids == 3, 9, ids)


# Cases told by hand.

CLIFF = StepCost([(3, 1.0), (6, 1.2), (7, 2.0), (12, 2.1)])


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
    cost, ids = StepCost([(1, 1.0), (3, 1.5)]), np.array([7])
    scheduler, survival = get_scheduler(AsyncSpec(1), cost), np.ones((1, 2))
    scheduler.plan(survival, ids)
    survival[:], ids[:] = 0.01, 8
    assert scheduler.plan(np.ones((1, 2)), np.array([7])).tolist() == [2]


def test_a_step_may_have_its_own_cost() -> None:
    survival, ids = np.full((3, 3), 0.9).cumprod(axis=1), np.arange(3)
    assert get_scheduler("algorithm1", CLIFF).plan(survival, ids, cost=FLAT).tolist() == [3, 3, 3]


def test_other_tokens_move_the_cliff_nearer() -> None:
    survival, ids = np.full((3, 3), 0.9).cumprod(axis=1), np.arange(3)
    assert get_scheduler("algorithm1", CLIFF).plan(survival, ids, other_tokens=2).tolist() == [1, 0, 0]


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


@pytest.mark.parametrize("name", ["fixed", "threshold", "algorithm1", "async"])
def test_256_requests_take_less_than_200_microseconds(name: str) -> None:
    """The fastest of many calls: what the code takes, whatever else the machine is doing."""
    scheduler = get_scheduler(name, StepCost([(1, 0.01), (512, 0.012), (513, 0.02), (2048, 0.05)]))
    random = np.random.default_rng(0)
    survival, ids, caps = random.uniform(0.3, 1.0, (256, 7)).cumprod(axis=1), np.arange(256), np.full(256, 7)
    times = []
    for _ in range(500):
        started = time.perf_counter()
        scheduler.plan(survival, ids, caps)
        times.append(time.perf_counter() - started)
    assert min(times) < 200e-6
