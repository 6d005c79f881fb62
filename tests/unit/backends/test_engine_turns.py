"""Which engines a cohort's step runs on, and in which cohort a request is admitted."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from dspark_engines import GenerationRequest
from dspark_engines.backends import Engine, Engines, VerifyOutput
from dspark_engines.runtime import RequestStream
from dspark_engines.runtime.serving.engine_turns import EngineTurns
from dspark_engines.runtime.serving.pool import EnginePool
from dspark_engines.runtime.serving.queue import AdmissionQueue
from dspark_engines.runtime.serving.timeline import Timeline

NONE, NO_FLOATS = np.zeros(0, np.int64), np.zeros(0, np.float32)
VERIFY: Any = ([], NONE, NONE, NONE, NONE)
DRAFT: Any = ([], NO_FLOATS, NONE, NONE, NONE, NO_FLOATS, NO_FLOATS)


class Named(Engine):
    """Says who it is instead of computing."""

    max_rows = 1

    def __init__(self, name: str, calls: list[str]) -> None:
        self.name, self.calls, self.meanwhile = name, calls, None

    def new_slot(self) -> str:
        return self.name

    def step(self, *args: Any) -> VerifyOutput:
        self.calls.append(self.name)
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile(*args)
        return VerifyOutput(np.zeros(0, np.float32), np.zeros(0, np.float32))


def engines(name: str, calls: list[str]) -> Any:
    return Engines(Named(f"{name}.verify", calls), Named(f"{name}.draft", calls))  # type: ignore[arg-type]


def turns(others: Sequence[int], calls: list[str]) -> EngineTurns:
    pool = EnginePool(engines("exclusive", calls), (engines("own 0", calls), engines("own 1", calls)))
    return EngineTurns(pool, Timeline(), lambda cohort: not [other for other in others if other != cohort], 2)


@pytest.mark.parametrize(
    ("others", "expected"), [([], ["exclusive.verify", "exclusive.draft"]), ([0, 1], ["own 1.verify", "own 1.draft"])]
)
def test_who_is_alone_has_the_machine(others: list[int], expected: list[str]) -> None:
    calls: list[str] = []
    mine = turns(others, calls).engines(1)
    mine.verify.step(*VERIFY)
    mine.draft.step(*DRAFT)
    assert calls == expected
    assert mine.verify.new_slot() == "exclusive.verify"


def test_who_comes_during_a_step_does_not_wait_for_it() -> None:
    """Both believe to be alone for a moment: one engine never runs two steps at once."""
    calls: list[str] = []
    both = turns([], calls)
    both.pool.exclusive.verify.meanwhile = both.engines(1).verify.step  # type: ignore[attr-defined]
    both.engines(0).verify.step(*VERIFY)
    assert calls == ["exclusive.verify", "own 1.verify"]
    both.engines(1).verify.step(*VERIFY)
    assert calls[-1] == "exclusive.verify", "it is free again"


def test_engines_that_are_somebodys_own_are_nobody_elses() -> None:
    calls: list[str] = []
    first = engines("own 0", calls)
    pool = EnginePool(first, (first, engines("own 1", calls)))
    EngineTurns(pool, Timeline(), lambda cohort: True, 2).engines(1).verify.step(*VERIFY)
    assert calls == ["own 1.verify"]


def test_a_failing_step_gives_the_engine_back() -> None:
    calls: list[str] = []
    both = turns([], calls)

    def fail(*args: Any) -> None:
        raise ValueError

    both.pool.exclusive.verify.meanwhile = fail  # type: ignore[attr-defined]
    with pytest.raises(ValueError):  # noqa: PT011
        both.engines(0).verify.step(*VERIFY)
    both.engines(0).verify.step(*VERIFY)
    assert calls == ["exclusive.verify", "exclusive.verify"]


@pytest.mark.parametrize("cohorts", [1, 2])
def test_a_shared_engine_s_outputs_outlive_the_other_cohort_s_step(cohorts: int) -> None:
    """They are views of one buffer; with one cohort nobody needs the copy."""

    class Buffered(Named):
        buffer = np.zeros(1, np.float32)

        def step(self, *args: Any) -> VerifyOutput:
            self.buffer += 1
            return VerifyOutput(self.buffer, self.buffer, 0.5)

    calls: list[str] = []
    shared: Any = Engines(Buffered("shared", calls), Named("draft", calls))  # type: ignore[arg-type]
    both = EngineTurns(EnginePool(shared), Timeline(), lambda cohort: True, cohorts)
    first, second = (both.engines(cohort % cohorts).verify.step(*VERIFY) for cohort in (0, 1))
    assert (first.logits is second.logits) is (cohorts == 1)
    if cohorts == 2:
        assert (first.logits[0], first.features[0], first.seconds, second.logits[0]) == (1, 1, 0.5, 2)


def stream() -> RequestStream:
    return RequestStream(GenerationRequest([1], 1))


@pytest.mark.parametrize("pairs_from", [0, 2, 4, 5])
@pytest.mark.parametrize("seed", range(5))
def test_few_stay_together_and_many_are_spread(pairs_from: int, seed: int) -> None:
    """Random coming and going through slots of 4 and 3."""
    rng, slots, taken = random.Random(seed), [4, 3], [0, 0]
    queue = AdmissionQueue(100)
    queue.set_slots(slots, pairs_from)
    for _ in range(300):
        if rng.random() < 0.5:
            queue.put(stream())
        for cohort in rng.sample([0, 1], 2):
            before = list(taken)
            while queue.take(cohort) is not None:
                taken[cohort] += 1
                assert taken[cohort] <= slots[cohort]
                if sum(taken) < pairs_from:
                    assert cohort == 0 or before[0] == slots[0]
                else:
                    assert taken[cohort] <= taken[1 - cohort] + 1 or taken[1 - cohort] == slots[1 - cohort]
        for cohort in (0, 1):
            if taken[cohort] and rng.random() < 0.4:
                queue.release(cohort)
                taken[cohort] -= 1
        assert [queue.exclusive(cohort) for cohort in (0, 1)] == [taken[1] == 0, taken[0] == 0]


def test_a_closed_and_empty_queue_lets_everybody_go() -> None:
    queue = AdmissionQueue(1)
    queue.set_slots([1, 1], 2)
    queue.put(stream())
    queue.close(abandon=False)
    assert queue.wait(0)
    assert queue.take(1) is None, "the first cohort's turn"
    assert queue.take(0) is not None
    assert not queue.wait(0)
    assert not queue.wait(1)
