"""A draft engine that fails: who notices, when it is asked again, and that nothing is lost meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from dspark_engines import GenerationRequest, GenerationResult, Generator
from dspark_engines.runtime.round import runner as rounds_module
from dspark_engines.runtime.round.draft_health import FIRST_PAUSE, LONGEST_PAUSE, DraftHealth
from dspark_engines.runtime.round.runner import RoundRunner
from dspark_engines.scheduler import FixedSpec, get_scheduler
from tests.support import fake_engines as fake
from tests.support.fake_engines import Language

BLOCK, CONTEXT = 4, 200
PROMPT = [5, 6, 7]


class Clock:
    """Seconds that pass when a test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> DraftHealth:
    return DraftHealth(clock)


class Failing:
    """A draft engine whose `step` raises whenever `broken` is set."""

    def __init__(self, draft: Any) -> None:
        self.step, self.broken, self.calls = draft.step, False, 0
        draft.step = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.broken:
            raise RuntimeError("no more memory\nand a second line")
        return self.step(*args, **kwargs)


def generator(health: DraftHealth) -> tuple[Generator, Failing]:
    engines = fake.fake_engines(Language(), block=BLOCK, context=CONTEXT, pattern=[3])
    manifest = fake.fake_manifest(block=BLOCK, context=CONTEXT, chunk=8)
    return Generator(engines, manifest, health=health), Failing(engines.draft)


def start(runner: Generator, count: int) -> tuple[GenerationResult, Iterator[list[int]]]:
    result = runner.new_result()
    return result, runner.stream(GenerationRequest(PROMPT, count), result)


def test_drafting_begins_again_after_a_pause_and_nothing_is_lost(health: DraftHealth, clock: Clock) -> None:
    """The fake drafter checks that it gets every position's features once and in order."""
    runner, draft = generator(health)
    result, stream = start(runner, 60)
    next(stream)
    next(stream)
    draft.broken = True
    with pytest.warns(RuntimeWarning, match=r"no more memory\); going on by plain decoding for 1 s"):
        next(stream)
    draft.broken = False
    for _ in range(5):
        next(stream)
    assert (draft.calls, [r.proposed for r in result.rounds]) == (2, [BLOCK, 0, 0, 0, 0, 0, 0])
    clock.now += FIRST_PAUSE
    rest = list(stream)
    assert rest
    assert result.rounds[7].proposed == BLOCK
    assert result.token_ids == Language().continuation(PROMPT, 60, CONTEXT)[0]
    assert (health.failures, health.bad_blocks) == (1, 0)
    assert runner.speculation_failed == "RuntimeError: no more memory"


def test_pauses_double_up_to_a_minute_and_success_is_forgiven(health: DraftHealth, clock: Clock) -> None:
    pauses = []
    for _ in range(8):
        with pytest.warns(RuntimeWarning, match="draft engine failed"):
            health.failed(ValueError("x"))
        begun = clock.now
        while health.pausing:
            clock.now += 0.5
        pauses.append(clock.now - begun)
    assert pauses == [1, 2, 4, 8, 16, 32, LONGEST_PAUSE, LONGEST_PAUSE]
    health.succeeded()
    with pytest.warns(RuntimeWarning, match="for 1 s"):
        health.failed(ValueError("x"))
    assert health.failures == 9


def test_failures_are_logged(health: DraftHealth, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "dspark_engines"), pytest.warns(RuntimeWarning):
        health.failed(OSError("device lost"))
    assert [record.name for record in caplog.records] == ["dspark_engines"]
    assert "OSError: device lost" in caplog.text


def test_who_comes_during_a_pause_drafts_after_it(health: DraftHealth, clock: Clock) -> None:
    runner, draft = generator(health)
    draft.broken = True
    with pytest.warns(RuntimeWarning, match="draft engine failed"):
        first = runner.run(GenerationRequest(PROMPT, 9))
    assert not any(r.proposed for r in first.rounds)
    result, stream = start(runner, 40)
    next(stream)
    next(stream)
    draft.broken = False
    clock.now += FIRST_PAUSE
    list(stream)
    assert result.rounds[0].proposed == 0
    assert result.rounds[1].proposed == BLOCK
    assert result.token_ids == Language().continuation(PROMPT, 40, CONTEXT)[0]


def test_a_request_that_waited_too_long_drops_what_it_kept(
    health: DraftHealth, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory of features that wait for the drafter is bounded."""
    monkeypatch.setattr(rounds_module, "MOST_MISSED", 6)
    engines = fake.fake_engines(Language(), block=BLOCK, context=CONTEXT, pattern=[3])
    manifest = fake.fake_manifest(block=BLOCK, context=CONTEXT, chunk=8)
    runner = RoundRunner(engines, manifest, get_scheduler(FixedSpec()), health=health)
    state, kept = runner.start(GenerationRequest(PROMPT, 60)), []
    draft = Failing(engines.draft)
    draft.broken = True
    runner.advance([state])
    with pytest.warns(RuntimeWarning, match="draft engine failed"):
        runner.advance([state])
    while state.speculating:
        runner.advance([state])
        kept.append(sum(map(len, state.pending)))
    assert kept == [5, 6, 7, 8, 9, 0]  # the prompt's three, and six more at most
    draft.broken = False
    clock.now += LONGEST_PAUSE
    while not runner.finished(state):
        runner.advance([state])
    assert draft.calls == 1
    assert state.result.token_ids == Language().continuation(PROMPT, 60, CONTEXT)[0]


def test_a_drafter_without_memory_for_one_more_request_is_done_without(health: DraftHealth) -> None:
    runner, _ = generator(health)
    draft = runner._runner._engines.draft

    def full() -> Any:
        raise MemoryError("no room for caches")

    draft.new_slot = full
    with pytest.warns(RuntimeWarning, match="no room for caches"):
        result = runner.run(GenerationRequest(PROMPT, 9))
    assert result.token_ids == Language().continuation(PROMPT, 9, CONTEXT)[0]
