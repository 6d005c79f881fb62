"""Who drafts: whoever raises tokens per second by what earlier rounds brought; tried again now and then."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dspark_engines.costs import CostTable, Fingerprint, Timing
from dspark_engines.runtime.selection import LONGEST, PATIENCE, DraftSelection, Yield

BLOCK = 4


def costs(draft: float, token: float) -> CostTable:
    """Verify 1 s and `token` more for each token, draft `draft` s a row bucket."""
    rest = {"context": 8, "low": 1.0, "high": 1.0, "samples": 3}
    here = Fingerprint(cpu="", cores=1, threads=1, backend="", backend_version="", engines={})
    verify = [
        Timing(rows=rows, tokens=rows * n, seconds=1 + token * rows * n, **rest) for rows in (1, 4) for n in (1, 5)
    ]
    drafts = [Timing(rows=rows, tokens=rows * BLOCK, seconds=draft * rows, **rest) for rows in (1, 4)]
    return CostTable(fingerprint=here, verify=verify, draft=drafts, overhead_seconds=0.0)


def requests(count: int) -> list[Any]:
    return [SimpleNamespace(id=index, used=8, drafted=index) for index in range(count)]


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
    value = Yield(4, 4)
    for _ in range(3):
        value = value.after(2, 0)
    assert (value.verified, value.accepted, value.weight) == (pytest.approx(2.5), pytest.approx(1.0), 4)
    for _ in range(1000):
        value = value.after(2, 1)
    assert value.accepted == pytest.approx(1.0, abs=1e-3)
    assert value.weight == 32
