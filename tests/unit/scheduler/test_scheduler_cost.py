"""The cost table: what was measured is kept, noise is pooled, and no cliff is invented or hidden."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspark_engines.measured import StepCost
from dspark_engines.measured.step_cost import INITIAL_CAPACITY, isotonic
from dspark_engines.scheduler import get_scheduler

SECONDS = st.floats(1e-4, 10.0)
POINTS = st.dictionaries(st.integers(1, 300), SECONDS, min_size=1, max_size=12).map(lambda d: list(d.items()))
BETWEEN = st.sampled_from(["linear", "stairs"])


def seconds(cost: StepCost, *tokens: int) -> list[float]:
    return cost.seconds(np.array(tokens)).tolist()


def test_between_points_a_straight_line() -> None:
    cost = StepCost([(4, 1.0), (8, 2.0)])
    assert seconds(cost, 4, 5, 6, 8) == [1.0, 1.25, 1.5, 2.0]


def test_between_points_the_next_larger_stair() -> None:
    cost = StepCost([(4, 1.0), (8, 2.0), (16, 3.0)], between="stairs")
    assert seconds(cost, 1, 4, 5, 8, 9, 16) == [1.0, 1.0, 2.0, 2.0, 3.0, 3.0]


def test_below_the_first_point_its_own_cost() -> None:
    assert seconds(StepCost([(4, 1.0), (8, 2.0)]), 1, 3) == [1.0, 1.0]


@pytest.mark.parametrize("between", ["linear", "stairs"])
def test_beyond_the_last_point_the_last_slope(between: str) -> None:
    cost = StepCost([(1, 1.0), (4, 1.5), (8, 2.5)], between=between)
    assert seconds(cost, 9, 12) == [2.75, 3.5]


def test_beyond_the_last_stair_it_still_rises() -> None:
    """The last two points stand on one stair; a slope of 0 would make every further token free."""
    points = [(4, 1.0), (5, 2.0), (8, 2.0), (9, 3.0), (12, 3.0), (13, 4.0), (16, 4.0)]
    assert seconds(StepCost(points), 24) == [6.0]  # over the last doubling: 2 seconds for 8 tokens


def test_one_point_is_a_constant() -> None:
    cost = StepCost([(8, 2.0)])
    assert seconds(cost, 1, 8, 5000) == [2.0] * 3
    assert cost.is_flat(0.0)


def test_a_measured_cliff_stands_where_it_was_measured() -> None:
    cost = StepCost([(1, 1.0), (8, 1.0), (9, 2.0), (16, 2.0)])
    assert seconds(cost, *range(1, 17)) == [1.0] * 8 + [2.0] * 8


@given(POINTS)
@settings(deadline=None)
def test_a_line_is_never_steeper_than_the_measurements(points: list[tuple[int, float]]) -> None:
    cost = StepCost(points)
    slopes = [(t2 - t1) / (b2 - b1) for (b1, t1), (b2, t2) in itertools.pairwise(cost.points)]
    rises = np.diff(cost.seconds(np.arange(1, 700)))
    assert rises.max() <= max(slopes, default=0.0) * (1 + 1e-9) + 1e-9


@given(POINTS, BETWEEN, st.floats(0, 1), st.floats(0, 1))
@settings(deadline=None)
def test_more_tokens_never_cost_less(points: list[tuple[int, float]], between: str, draft: float, other: float) -> None:
    cost = StepCost(points, between=between, draft_seconds=draft, overhead_seconds=other)
    tokens = np.arange(1, 1000)
    assert (np.diff(cost.seconds(tokens)) >= 0).all()
    assert (np.diff(cost.sps(tokens)) <= 0).all()
    assert (cost.seconds(tokens) > 0).all()
    assert np.array_equal(cost.sps(tokens), 1.0 / (cost.seconds(tokens) + (draft + other)))


@given(st.lists(SECONDS, min_size=1, max_size=9))
@settings(deadline=None)
def test_isotonic_is_the_min_max_formula(values: list[float]) -> None:
    """Least squares at i: of the runs that hold i, the largest over starts of the smallest over ends of the mean."""
    n = len(values)
    expected = [
        max(min(np.mean(values[start:end]) for end in range(i + 1, n + 1)) for start in range(i + 1)) for i in range(n)
    ]
    assert isotonic(np.array(values)) == pytest.approx(expected, rel=1e-12)


def test_noise_is_pooled_and_the_cliff_stays() -> None:
    cost = StepCost([(1, 1.0), (2, 1.2), (4, 0.8), (8, 1.0), (9, 2.0)])
    assert [time for _, time in cost.points] == pytest.approx([1.0, 1.0, 1.0, 1.0, 2.0])


def test_points_may_come_in_any_order() -> None:
    assert StepCost([(8, 2.0), (4, 1.0)]).points == [(4, 1.0), (8, 2.0)]


def test_one_size_many_sizes_and_a_window_agree() -> None:
    cost = StepCost([(1, 1.0), (64, 3.0)], draft_seconds=0.5)
    sizes = np.array([[1, 7], [64, 65]])
    assert np.array_equal(cost.sps(sizes), [[cost.sps(int(size)) for size in row] for row in sizes])
    assert cost.sps(1) == 1 / 1.5
    assert np.array_equal(cost.window(7, 3), cost.sps(np.array([7, 8, 9])))
    assert isinstance(cost.sps(7), float)
    assert cost.sps(np.empty(0, np.int64)).shape == (0,)


def test_the_table_grows_without_changing() -> None:
    cost = StepCost([(1, 1.0), (64, 3.0)])
    far = 3 * INITIAL_CAPACITY
    before, last = cost.window(1, 100).copy(), cost.sps(INITIAL_CAPACITY)
    assert cost.sps(far) == 1.0 / cost.seconds(np.array([far]))[0]
    assert np.array_equal(cost.window(1, 100), before)
    assert cost.sps(INITIAL_CAPACITY) == last
    assert cost.window(7 * INITIAL_CAPACITY, 5).shape == (5,)


def test_nobody_writes_into_the_table() -> None:
    with pytest.raises(ValueError, match="read-only"):
        StepCost([(1, 1.0)]).window(1, 4)[0] = 1.0


def test_flat_means_that_trimming_cannot_gain() -> None:
    assert StepCost([(1, 1.0), (64, 1.01)]).is_flat(0.02)
    assert not StepCost([(1, 1.0), (64, 1.03)]).is_flat(0.02)
    assert StepCost([(1, 1.0), (64, 1.03)], overhead_seconds=1.0).is_flat(0.02)
    assert StepCost([(1, 1.0), (8, 1.0), (64, 2.0)]).is_flat(up_to=8)


@pytest.mark.parametrize(("overhead", "length"), [(0.0, 0), (2.0, 1)])
def test_overhead_left_out_trims_too_much(overhead: float, length: int) -> None:
    """The token seems to cost 40% of a round, and is worth 30%; with what a round costs anyway it is 13%."""
    cost = StepCost([(1, 1.0), (2, 1.4)], overhead_seconds=overhead)
    plan = get_scheduler("algorithm1", cost).plan(np.array([[0.3]]), np.array([0]))
    assert plan.tolist() == [length]


@pytest.mark.parametrize("tokens", [0, -1])
def test_a_step_has_a_token(tokens: int) -> None:
    cost = StepCost([(1, 1.0)])
    for ask in (lambda: cost.sps(tokens), lambda: cost.sps(np.array([1, tokens])), lambda: cost.window(tokens, 3)):
        with pytest.raises(ValueError, match="at least one token"):
            ask()


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([], "at least one"),
        ([(0, 1.0)], "at least 1"),
        ([(4, 1.0), (4, 1.0)], "once"),
        ([(4, 0.0)], "above 0"),
        ([(4, -1.0)], "above 0"),
        ([(4, 1.0), (8, float("nan"))], "finite"),
        ([(4, float("inf"))], "finite"),
    ],
)
def test_bad_points_are_refused(points: list[tuple[int, float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StepCost(points)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["draft_seconds", "overhead_seconds"])
def test_bad_fixed_seconds_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match="finite and not negative"):
        StepCost([(4, 1.0)], **{name: value})
