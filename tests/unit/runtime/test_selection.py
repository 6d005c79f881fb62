"""Who drafts: whoever raises tokens per second by what earlier rounds brought; tried again now and then."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dspark_engines.measured import CostTable, DraftPrior, Fingerprint, Timing
from dspark_engines.runtime.round.selection import LONGEST, PATIENCE, DraftGain, DraftSelection

BLOCK = 4


def costs(draft: float, token: float, reading: float = 0.0) -> CostTable:
    """Verify 1 s and `token` more for each token, draft `draft` s a row bucket and `reading` for each missed token."""
    rest = {"context": 8, "low": 1.0, "high": 1.0, "samples": 3}
    here = Fingerprint(cpu="", cores=1, threads=1, backend="", backend_version="", engines={})
    verify = [
        Timing(rows=rows, tokens=rows * n, seconds=1 + token * rows * n, **rest) for rows in (1, 4) for n in (1, 5)
    ]
    drafts = [Timing(rows=rows, tokens=rows * BLOCK, seconds=draft * rows, **rest) for rows in (1, 4)]
    return CostTable(fingerprint=here, verify=verify, draft=drafts, overhead_seconds=0.0, reading_seconds=reading)


def requests(count: int) -> list[Any]:
    return [SimpleNamespace(id=index, used=8, unread=8 - index, remaining=100) for index in range(count)]


def test_drafting_is_tried_first() -> None:
    states = requests(3)
    assert DraftSelection(costs(0.5, 0.01), BLOCK).choose(states, states) == states


@pytest.mark.parametrize(("accepted", "drafts"), [(2, True), (0, False)])
def test_what_earlier_rounds_brought_decides(accepted: int, drafts: bool) -> None:
    """A draft costs half a step: two accepted tokens pay for it, none do not."""
    selection, states = DraftSelection(costs(0.5, 0.01), BLOCK), requests(1)
    for _ in range(40):
        selection.record(states[0], BLOCK, accepted)
    assert bool(selection.choose(states, states)) is drafts


def test_only_those_draft_for_whom_it_pays() -> None:
    selection, states = DraftSelection(costs(0.3, 0.01), BLOCK), requests(2)
    for _ in range(60):
        selection.record(states[0], BLOCK, 0)
        selection.record(states[1], BLOCK, BLOCK)
    assert selection.choose(states, states) == [states[1]]


def test_nobody_is_chosen_who_cannot_draft() -> None:
    states = requests(2)
    selection = DraftSelection(costs(0.1, 0.0), BLOCK)
    assert selection.choose(states, []) == []
    assert selection.choose(states, states[1:]) == states[1:]


def test_it_is_tried_again_after_ever_longer_pauses() -> None:
    """Pauses double up to a limit, and start anew once drafting pays."""
    selection, states = DraftSelection(costs(5.0, 0.0), BLOCK), requests(1)
    pauses, pause = [], 0
    for _ in range(500):
        if selection.choose(states, states):
            selection.record(states[0], 0, 0)
            pauses.append(pause)
            pause = 0
        else:
            pause += 1
    assert pauses[:5] == [PATIENCE, 2 * PATIENCE, 4 * PATIENCE, LONGEST, LONGEST]


def test_the_one_with_the_least_to_catch_up_on_tries() -> None:
    selection, states = DraftSelection(costs(5.0, 0.0), BLOCK), requests(3)
    for _ in range(60):
        for state in states:
            selection.record(state, 0, 0)
    choices = [selection.choose(states, states) for _ in range(PATIENCE + 1)]
    assert choices == [[]] * PATIENCE + [[states[2]]]


def test_a_request_that_left_is_forgotten_and_a_newcomer_gets_what_is_usual() -> None:
    selection, states = DraftSelection(costs(0.5, 0.01), BLOCK), requests(2)
    for _ in range(40):
        selection.record(states[0], BLOCK, 0)
    assert selection.choose(states[1:], states[1:]) == []
    selection.record(states[1], BLOCK, BLOCK)
    assert set(selection._own) == {1}


def test_a_yield_is_a_mean_that_forgets() -> None:
    value = DraftGain(4, 4)
    for _ in range(3):
        value = value.after(2, 0)
    assert (value.verified, value.accepted, value.weight) == (pytest.approx(2.5), pytest.approx(1.0), 4)
    for _ in range(1000):
        value = value.after(2, 1)
    assert value.accepted == pytest.approx(1.0, abs=1e-3)
    assert value.weight == 32


@pytest.mark.parametrize(
    ("survival", "expected"),
    [
        ((0.9, 0.8, 0.7, 0.6), True),
        ((0.4, 0.1, 0.0, 0.0), False),
        ((0.6, 0.0, 0.0, 0.0), True),  # one token pays where whole blocks would not
    ],
)
def test_the_calibration_says_whether_to_begin(survival: tuple[float, ...], expected: bool) -> None:
    """A draft costs 0.4 steps, a draft token a tenth of one."""
    table, states = costs(0.4, 0.1), requests(1)
    assert bool(DraftSelection(table, BLOCK, DraftPrior(survival, 0.0)).choose(states, states)) is expected


@pytest.mark.parametrize(("spread", "tries"), [(0.0, 0), (0.5, 1)])
def test_a_newcomer_may_be_better_than_usual(spread: float, tries: int) -> None:
    """Where requests differ much each is tried; who shows no more than usual is left alone from then on."""
    selection = DraftSelection(costs(0.5, 0.01), BLOCK, DraftPrior((0.3, 0.0, 0.0, 0.0), spread))
    drafted = []
    for state in requests(2):
        drafted.append(0)
        for _ in range(PATIENCE // 2):
            if selection.choose([state], [state]):
                selection.record(state, BLOCK, 0)
                drafted[-1] += 1
    assert [bool(count) for count in drafted] == [bool(tries)] * 2
    assert max(drafted) < PATIENCE // 2


@pytest.mark.parametrize(("remaining", "unread", "expected"), [(100, 60, True), (4, 60, False), (4, 0, True)])
def test_reading_has_to_pay_in_the_rounds_that_are_left(remaining: int, unread: int, expected: bool) -> None:
    selection, states = DraftSelection(costs(0.3, 0.0, reading=0.1), BLOCK), requests(1)
    for _ in range(60):
        selection.record(states[0], BLOCK, 1)
    states[0].remaining, states[0].unread = remaining, unread
    assert bool(selection.choose(states, states)) is expected


def test_of_equals_the_one_with_less_to_read_drafts() -> None:
    selection, states = DraftSelection(costs(0.45, 0.2, reading=1e-3), BLOCK), requests(2)
    for _ in range(60):
        for state in states:
            selection.record(state, 1, 1)
    states[0].unread = 2000
    assert selection.choose(states, states) == [states[1]]
