"""Schedulers against loops that say what they do, and the properties that must hold for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspark_engines.arrays import Doubles, Ints
from dspark_engines.measured import StepCost
from dspark_engines.scheduler import (
    Algorithm1Spec,
    AsyncSpec,
    FixedSpec,
    SchedulerSpec,
    ThresholdSpec,
    algorithm1_array,
    get_scheduler,
)
from dspark_engines.scheduler.admission import admit_first, best_budget, nth_largest
from dspark_engines.scheduler.arrays import admit, last_admitted, rank
from dspark_engines.scheduler.async_ import SMALLEST

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


def algorithm1_loop(survival: Doubles, caps: Ints, sps: Doubles, plain: int = 0) -> list[int]:
    """The paper's loop; sps[k] is SPS(R + k), R including the `plain` rows."""
    tau, admitted = float(len(survival) + plain), list[Candidate]()
    best = tau * sps[0]
    for candidate in candidates(survival, caps):
        tau -= candidate[0]
        theta = tau * sps[len(admitted) + 1]
        if theta <= best:
            break
        best = theta
        admitted.append(candidate)
    return lengths_of(admitted, len(survival))


def budget_loop(survival: Doubles, caps: Ints, sps: Doubles, plain: int) -> int:
    """The smallest of the best numbers of candidates to admit."""
    rows = len(survival) + plain
    tau, best, budget = float(rows), rows * sps[0], 0
    for count, candidate in enumerate(candidates(survival, caps), 1):
        tau -= candidate[0]
        if tau * sps[count] > best:
            best, budget = tau * sps[count], count
    return budget


class AsyncLoop:
    """The asynchronous scheduler with a dictionary for each step that went by."""

    def __init__(self, delay: int, cost: StepCost) -> None:
        self.delay, self.cost, self.history = delay, cost, list[dict[int, Doubles]]()

    def plan(self, survival: Doubles, ids: Ints, caps: Ints, plain: int) -> list[int]:
        earlier = self.history[-self.delay] if len(self.history) >= self.delay else {}
        old = np.array([earlier.get(int(i), np.ones(survival.shape[1])) for i in ids]).reshape(survival.shape)
        sps = self.cost.sps(len(survival) + plain + np.arange(1 + survival.size))
        budget = budget_loop(old, caps, sps, plain)
        self.history.append({int(i): row.copy() for i, row, cap in zip(ids, survival, caps, strict=True) if cap > 0})
        return lengths_of(candidates(survival, caps)[:budget], len(survival))


# Strategies: few distinct values, so that there are ties, ones and zeros; and costs with cliffs and plateaus.

CONFIDENCES = st.sampled_from([0.0, 0.25, 0.5, 0.5, 0.9, 1.0, 1.0]) | st.floats(0.001, 1.0)


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


@given(steps(), costs(), st.integers(0, 3), st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_algorithm1_is_the_papers_loop(step: tuple[Doubles, Ints], cost: StepCost, plain: int, others: int) -> None:
    survival, caps = step
    rows = len(survival)
    sps = cost.sps(rows + plain + others + np.arange(1 + survival.size))
    scheduler = get_scheduler("algorithm1", cost)
    plan = scheduler.plan(survival, np.arange(rows), caps, plain_rows=plain, other_tokens=others)
    assert plan.tolist() == algorithm1_loop(survival, caps, sps, plain)
    assert plan.dtype == np.int64


@given(steps(), costs())
@settings(deadline=None)
def test_the_array_form_needs_nothing_but_array_operations(step: tuple[Doubles, Ints], cost: StepCost) -> None:
    names = ("full", "ones", "concatenate", "sort", "cumsum", "argmax", "take_along_axis", "swapaxes")
    device = SimpleNamespace(**{name: getattr(np, name) for name in names})
    survival, _ = step
    rows, block = survival.shape
    sps = cost.sps(rows + np.arange(1 + survival.size))
    expected = algorithm1_loop(survival, np.full(rows, block), sps)
    assert algorithm1_array(device, survival, sps).tolist() == expected


@given(steps(), st.integers(0, 30))
@settings(deadline=None)
def test_admission_takes_the_first_in_order(step: tuple[Doubles, Ints], budget: int) -> None:
    survival, _ = step
    rows, block = survival.shape
    order = candidates(survival, np.full(rows, block))
    budget = min(budget, len(order))
    by_position = np.ascontiguousarray(survival.T)
    edge = last_admitted(np, rank(np, by_position, rows), np.asarray(budget))
    expected = lengths_of(order[:budget], rows)
    assert admit(np, by_position, np.asarray(budget), edge).tolist() == expected
    assert admit_first(by_position, np.asarray(budget), edge).tolist() == expected
    if order:
        edge = np.maximum(nth_largest(by_position, np.asarray(budget)), SMALLEST)
        assert admit_first(by_position, np.asarray(budget), edge).tolist() == expected


@given(st.data(), costs(), st.integers(0, 3))
@settings(deadline=None)
def test_the_best_budget_of_several_steps_at_once(data: st.DataObject, cost: StepCost, plain: int) -> None:
    survival, caps = data.draw(steps(block=3))
    several = np.stack([survival, survival / 2, np.zeros_like(survival)])
    rows = len(survival)
    sps = cost.sps(rows + plain + np.arange(1 + survival.size))
    barred = np.where(np.arange(3) < caps[:, None], several, 0.0).swapaxes(-1, -2)
    expected = [budget_loop(step, caps, sps, plain) for step in several]
    assert best_budget(barred, rows + plain, sps).tolist() == expected
    assert [int(best_budget(step, rows + plain, sps)) for step in barred] == expected


@given(st.data(), costs(), st.integers(1, 3))
@settings(deadline=None)
def test_async_is_its_loop_while_requests_come_and_go(data: st.DataObject, cost: StepCost, delay: int) -> None:
    scheduler, loop = get_scheduler(AsyncSpec(delay), cost), AsyncLoop(delay, cost)
    for _ in range(data.draw(st.integers(1, 6))):
        survival, caps = data.draw(steps(block=3))
        ids = np.array(data.draw(st.permutations(range(8))))[: len(survival)]
        plain = data.draw(st.integers(0, 3))
        plan = scheduler.plan(survival, ids, caps, plain_rows=plain)
        assert plan.tolist() == loop.plan(survival, ids, caps, plain)


@given(steps(), st.floats(0.01, 1.0), st.none() | st.integers(0, 7))
@settings(deadline=None)
def test_threshold_and_fixed_are_their_loops(step: tuple[Doubles, Ints], minimum: float, length: int | None) -> None:
    """A length above the block's is the block's: what no position predicts is never asked for."""
    survival, caps = step
    order, rows = candidates(survival, caps), len(survival)
    ids = np.arange(rows)
    above = lengths_of([c for c in order if -c[0] >= minimum], rows)
    assert get_scheduler(ThresholdSpec(minimum)).plan(survival, ids, caps).tolist() == above
    first = lengths_of([c for c in order if length is None or c[1] < length], rows)
    assert get_scheduler(FixedSpec(length)).plan(survival, ids, caps).tolist() == first


@pytest.mark.parametrize("spec", SPECS, ids=str)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
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
