"""Accepting drafts on a simulated GPU: what the host would have accepted, on logits that it never sees."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dspark_engines import GenerationRequest, Runtime, RuntimeOptions
from dspark_engines.backends import Engines, VerifyEngine
from dspark_engines.bundle import Bundle
from dspark_engines.errors import GenerationError
from dspark_engines.sampling import SamplingParams, accept_rows
from dspark_engines.sampling.contract import AcceptInputs, HeldLogits
from dspark_export.checks import check_identity, compare
from dspark_plugins.accept import BROKEN
from tests.backend.backends.test_engines import build
from tests.support import tiny
from tests.support.accept_cases import Feeds, assert_same, random_case
from tests.support.simulated_gpu import SimulatedCuda
from tests.support.simulated_machine import Machine, running

BLOCK = tiny.BLOCK
STEPS: tuple[tuple[Sequence[int], Sequence[int], Sequence[int]], ...] = (
    # (rows, tokens of each, verify length of each; -1: a prompt that goes on)
    ((0, 1), (21, 3), (-1, 0)),
    ((0, 2), (3, 30), (0, 0)),
    ((1, 0, 2), (6, 1, 4), (5, 0, 3)),
    ((2, 1, 0), (1, 1, 1), (0, 0, 0)),
    ((0, 1, 2), (6, 6, 6), (5, 5, 5)),
    ((0, 1, 2), (6, 6, 6), (5, 5, 5)),
    ((2,), (2,), (1,)),
)


class ByHand(VerifyEngine):
    """The same engine, which leaves accepting to the host."""

    def __init__(self, engine: VerifyEngine) -> None:
        self.engine = engine

    @property
    def max_rows(self) -> int:
        return self.engine.max_rows

    def new_slot(self) -> Any:
        return self.engine.new_slot()

    def step(self, *args: Any, **kwargs: Any) -> Any:
        return self.engine.step(*args, **kwargs)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return build(tmp_path_factory.mktemp("deciding"), 4)


@pytest.fixture(params=["", "9.0"], ids=["body", "plugins"])
def machine(request: pytest.FixtureRequest, bundle: Bundle, cuda: SimulatedCuda, tmp_path: Path) -> Iterator[Machine]:
    with running(bundle, cuda, tmp_path, request.param) as made:
        yield made


@pytest.fixture
def greedy(bundle: Bundle, cuda: SimulatedCuda, tmp_path: Path) -> Iterator[Machine]:
    with running(bundle, cuda, tmp_path, "9.0", greedy=True) as made:
        yield made


def inputs_of(feeds: Feeds) -> AcceptInputs:
    """Drafts of the rows that have some, and uniforms no further than anybody looks."""
    lengths = feeds["verify_lengths"]
    drafted = int(np.count_nonzero(lengths))
    return AcceptInputs(
        feeds["draft_ids"],
        feeds["draft_logits"][:drafted],
        lengths,
        feeds["temperature"],
        feeds["uniforms"][:, : max(lengths) + 1],
    )


@pytest.mark.parametrize("temperatures", [(0.0,), (0.7, 1.3), (0.0, 1.0)], ids=["greedy", "sampling", "mixed"])
def test_what_is_accepted_is_what_the_host_would(machine: Machine, temperatures: tuple[float, ...]) -> None:
    """Rows with drafts, plain ones and prompts, in changing company: first runs, recorded graphs, replayed ones."""
    random = np.random.default_rng(5)
    engine, used = machine.engines.verify, [0, 0, 0]
    slots = [engine.new_slot() for _ in range(3)]
    for number, (rows, counts, lengths) in enumerate(STEPS):
        order = sorted(range(len(rows)), key=lambda at: lengths[at] < 1)  # rows with drafts come first
        rows, counts, lengths = ([values[at] for at in order] for values in (rows, counts, lengths))
        step = (
            [slots[row] for row in rows],
            random.integers(0, tiny.VOCAB, sum(counts)),
            np.array(counts),
            np.array([used[row] for row in rows]),
        )
        ends = np.cumsum(counts)
        asked = np.concatenate([np.arange(end - length - 1, end) for end, length in zip(ends, lengths, strict=True)])
        verified = [length for length in lengths if length >= 0]
        feeds = random_case(len(verified), BLOCK, tiny.VOCAB, number, temperatures, verified)
        expected = engine.step(*step, asked.astype(np.int64))
        logits, features = expected.logits.copy(), expected.features.copy()
        feeds["draft_ids"] = near(feeds["draft_ids"], logits, verified, random)
        actual = engine.step_and_accept(*step, asked.astype(np.int64), inputs_of(feeds))
        assert actual.accepted is not None
        host = accept_rows(logits, *inputs_of(feeds))
        assert assert_same({**feeds, "logits": logits}, actual.accepted, host) == 0
        assert compare("target.features", actual.features, features).passed
        assert actual.logits.shape[0] == 0
        for row, count in zip(rows, counts, strict=True):
            used[row] += count


def near(ids: np.ndarray, logits: np.ndarray, lengths: Sequence[int], random: np.random.Generator) -> np.ndarray:
    """Most drafts are the target's own choice, so that some stand."""
    result, line = ids.copy(), 0
    for row, length in enumerate(lengths):
        choices = logits[line : line + length].argmax(-1)
        result[row, :length] = np.where(random.random(length) < 0.7, choices, result[row, :length])
        line += length + 1
    return result


def test_logits_stay_on_the_device(machine: Machine) -> None:
    """What is not copied still holds what fresh memory does; draft logits are sent only when somebody samples."""
    target, _, acceptor = machine.programs
    engine, slot = machine.engines.verify, machine.engines.verify.new_slot()
    feeds = random_case(1, BLOCK, tiny.VOCAB, 1, (0.0,), [BLOCK])
    step = ([slot], np.arange(BLOCK + 1), np.array([BLOCK + 1]), np.array([0]), np.arange(BLOCK + 1))
    for _ in range(3):
        engine.step_and_accept(*step, inputs_of(feeds))
    assert (target._buffers.tensors["logits"].host.bytes == 0xFF).all()
    assert not {"logits", "draft_logits"} & set(acceptor._buffers.tensors)
    engine.step(*step)
    assert not (target._buffers.tensors["logits"].host.bytes == 0xFF).all()


def test_a_request_finds_nothing_of_who_had_its_cache_row(machine: Machine) -> None:
    """NaN in cells that are masked would still be NaN in the sum over them."""
    request = GenerationRequest(list(range(3, 23)), 8)
    expected = generate(machine.bundle, machine.engines, [request])
    for program in machine.programs[:2]:
        for memory in program._buffers.caches.values():
            ctypes.memset(memory.address, 0xFF, memory.size)
    assert generate(machine.bundle, machine.engines, [request]) == expected


def test_a_row_without_a_finite_logit_ends_its_request_alone(machine: Machine) -> None:
    """The device says so with a token that is none."""
    good, bad = GenerationRequest(list(range(3, 23)), 8), GenerationRequest(list(range(40, 60)), 8)
    engine, expected = machine.engines.verify, generate(machine.bundle, machine.engines, [good])
    decide = engine.step_and_accept

    def spoiled(*args: Any, **kwargs: Any) -> Any:
        output = decide(*args, **kwargs)
        assert output.accepted is not None
        output.accepted.next_ids[1:] = BROKEN
        return output

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "step_and_accept", spoiled)
        with Runtime(
            machine.bundle, RuntimeOptions(pipeline="off", speculation="on"), engines=machine.engines
        ) as runtime:
            first, second = runtime.submit(good), runtime.submit(bad)
            with pytest.raises(GenerationError, match="NaN or infinite at position 20"):
                second.result()
            assert first.result().token_ids == expected[0]


def test_draft_logits_are_held_until_their_slots_draft_again(machine: Machine) -> None:
    """Another cohort's step overwrites what the engine puts out."""
    engine, random = machine.engines.draft, np.random.default_rng(3)
    slots = [engine.new_slot() for _ in range(3)]

    def hot_step(chosen: Sequence[int]) -> HeldLogits:
        count = len(chosen)
        output = engine.step(
            [slots[at] for at in chosen],
            random.standard_normal((count, machine.bundle.manifest.drafter.feature_size), np.float32),
            np.ones(count, np.int64),
            np.zeros(count, np.int64),
            random.integers(0, tiny.VOCAB, count),
            np.ones(count, np.float32),
            random.random((count, BLOCK), np.float32),
        )
        assert isinstance(output.draft_logits, HeldLogits)
        return output.draft_logits

    ours = hot_step([2, 0])
    before = np.array(ours)
    assert before.shape == (len(ours), BLOCK, tiny.VOCAB) == (2, BLOCK, tiny.VOCAB)
    assert np.isfinite(before).all()
    others = hot_step([1])
    np.testing.assert_array_equal(before, ours)
    hot_step([0])
    np.testing.assert_array_equal(before[0], np.array(ours)[0])
    assert (before[1] != np.array(ours)[1]).any()
    assert np.isfinite(np.array(others)).all()


def generate(bundle: Bundle, engines: Engines, requests: Sequence[GenerationRequest]) -> list[list[int]]:
    """All of them at once."""
    with Runtime(
        bundle, RuntimeOptions(pipeline="on" if len(requests) > 3 else "off", speculation="on"), engines=engines
    ) as runtime:
        return [result.token_ids for result in runtime.generate(requests)]


def test_requests_get_what_they_got_from_the_host(machine: Machine) -> None:
    """Greedy, sampled, truncated and plain requests together."""
    requests = [
        GenerationRequest(list(range(3, 3 + length)), 12, sampling=params, speculate=number != 2)
        for number, (length, params) in enumerate(
            [
                (4, SamplingParams()),
                (20, SamplingParams(0.8, seed=7)),
                (9, SamplingParams(1.0, seed=8)),
                (6, SamplingParams(0.9, top_p=0.8, seed=9)),
            ]
        )
    ]
    for chosen in (requests, requests[:3], requests[:1]):
        by_host = Engines(ByHand(machine.engines.verify), machine.engines.draft)
        assert generate(machine.bundle, machine.engines, chosen) == generate(machine.bundle, by_host, chosen)


def test_speculation_changes_nothing(machine: Machine) -> None:
    report = check_identity(machine.engines, machine.bundle.manifest, [[5, 6], list(range(30))], 10, lambda *_: None)
    assert report.passed, report.differences


def test_a_greedy_engine_leaves_sampled_requests_to_the_host(greedy: Machine) -> None:
    engine = greedy.engines.verify
    assert (engine.accepts_on_device(False), engine.accepts_on_device(True)) == (True, False)
    assert not {"draft_logits", "temperature", "uniforms"} & set(greedy.programs[2]._buffers.tensors)
    requests = [
        GenerationRequest([4, 5, 6], 8),
        GenerationRequest([7, 8], 8, sampling=SamplingParams(1.0, seed=3), speculate=False),
    ]
    by_host = Engines(ByHand(engine), greedy.engines.draft)
    for chosen in (requests, requests[:1]):
        assert generate(greedy.bundle, greedy.engines, chosen) == generate(greedy.bundle, by_host, chosen)
