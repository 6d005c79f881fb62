"""The runtime on engines without a model: every call checked, every acceptance pattern, every way to stop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspark_calibration import Round, accepted_length, accepted_per_position
from dspark_engines import GenerationRequest, GenerationResult, Generator
from dspark_engines.errors import RequestError
from dspark_engines.runtime.result import first_stop
from dspark_engines.sampling import accept_rows
from tests.support import fake_engines as fake
from tests.support.fake_engines import EOS, STEP_SECONDS, VOCAB, Language

BLOCK, CONTEXT, CHUNK = 4, 40, 8


def generator(
    language: Language, pattern: Any = (2,), *, block: int = BLOCK, context: int = CONTEXT, chunk: int = CHUNK
) -> tuple[Generator, Any, Any]:
    engines = fake.fake_engines(language, block=block, context=context, pattern=pattern)
    manifest = fake.fake_manifest(block=block, context=context, chunk=chunk)
    return Generator(engines, manifest), engines.verify, engines.draft


def expected_rounds(request: GenerationRequest, pattern: list[int], wanted: list[int], sizes: Any) -> list[Round]:
    """What the rounds must have been: a drafter that is right `pattern` times, cut by lengths and by the end."""
    rounds, done, (block, context) = list[Round](), 1, sizes
    while done < len(wanted):
        room = min(block, request.max_new_tokens - done - 1, context - len(request.prompt_ids) - done - 1)
        right = pattern[sum(r.proposed > 0 for r in rounds) % len(pattern)]
        end = wanted.index(EOS) + 1 - done if EOS in wanted else block + 1  # the end is the end-th token from here
        drafts_the_end = right != end - 1  # and is wrong there otherwise
        proposed = max(0, min(room, end) if drafts_the_end else room)
        accepted = min(right, proposed)
        rounds.append(Round(proposed, accepted, accepted + (accepted < end)))
        done += rounds[-1].produced
    return rounds


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_speculation_changes_nothing(data: st.DataObject) -> None:
    block, context, chunk = (data.draw(st.integers(*ends)) for ends in ((1, 7), (2, 48), (1, 9)))
    prompt = data.draw(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=min(20, context - 1)))
    limit = data.draw(st.integers(1, 40))
    eos_at = data.draw(st.none() | st.integers(len(prompt), len(prompt) + 20))
    pattern = data.draw(st.lists(st.integers(0, block), min_size=1, max_size=6))
    language = Language(eos_at)
    runner, *_ = generator(language, pattern, block=block, context=context, chunk=chunk)
    request = GenerationRequest(prompt, limit)
    plain, result = runner.run(replace(request, speculate=False)), runner.run(request)
    wanted = language.continuation(prompt, limit, context)
    assert (plain.token_ids, plain.stop) == wanted
    assert (result.token_ids, result.stop) == wanted
    count = len(wanted[0])
    assert plain.rounds == [Round(0, 0, 1)] * (count - 1)
    assert result.rounds == expected_rounds(request, pattern, wanted[0], (block, context))
    assert len(prompt) + count <= context  # prompt and output together


@pytest.mark.parametrize("right", range(BLOCK + 1))
def test_rounds_cost_what_they_should(right: int) -> None:
    """k accepted drafts make k + 1 tokens from one draft and one verification of a whole block."""
    runner, verify, draft = generator(Language(), [right], context=99)
    result = runner.run(GenerationRequest([5, 6], 1 + 3 * (right + 1) + BLOCK))
    full = [r for r in result.rounds if r.proposed == BLOCK]
    assert full[:3] == [Round(BLOCK, right, right + 1)] * 3
    assert [len(call[0]) for call in verify.calls[1:4]] == [BLOCK + 1] * 3
    assert draft.steps == sum(r.proposed > 0 for r in result.rounds)
    assert len(verify.calls) == 1 + len(result.rounds)
    assert result.seconds.draft == STEP_SECONDS * draft.steps
    assert result.seconds.verify == STEP_SECONDS * len(result.rounds)  # the prompt's step is in `prefill`


@pytest.mark.parametrize("right", [0, 1, 3, 4])
@pytest.mark.parametrize("inside", range(BLOCK + 1))
def test_end_of_sequence_inside_a_block(inside: int, right: int) -> None:
    """The end may be any of a block's tokens or the one behind it; what is drafted behind it never shows."""
    prompt = [5, 6, 7]
    runner, *_ = generator(Language(eos_at=len(prompt) + 1 + inside), [right])
    result = runner.run(GenerationRequest(prompt, 30))
    assert result.stop == "eos"
    assert result.token_ids.index(EOS) == len(result.token_ids) - 1 == 1 + inside
    assert sum(r.produced for r in result.rounds) == 1 + inside
    first = result.rounds[0]
    assert first.proposed == (BLOCK if right == inside else min(inside + 1, BLOCK))  # cut at an end that was drafted
    assert first.accepted == min(right, first.proposed)
    assert accepted_length(result.rounds) == (1 + inside) / len(result.rounds)


@pytest.mark.parametrize("length", [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 2])
def test_prompts_are_read_in_chunks(length: int) -> None:
    runner, verify, _ = generator(Language())
    prompt = [3 + i for i in range(length)]
    result = runner.run(GenerationRequest(prompt, 1))
    assert [token for call in verify.calls for token in call[0]] == prompt
    assert all(len(call[0]) == CHUNK for call in verify.calls[:-1])
    assert sum(verify.logit_rows) == 1
    assert result.rounds == []
    assert result.token_ids == [Language().next(prompt)]
    assert (accepted_length(result.rounds), result.tokens_per_second) == (0.0, 0.0)


def test_without_speculation_the_drafter_rests() -> None:
    runner, verify, draft = generator(Language())
    result = runner.run(GenerationRequest([5], 12, speculate=False))
    assert (draft.steps, draft.slots) == (0, [])
    assert [len(call[0]) for call in verify.calls] == [1] * 12
    assert result.seconds.draft == 0.0


def test_streamed_tokens_are_the_result() -> None:
    runner, *_ = generator(Language(eos_at=17), [0, 3])
    result = runner.new_result()
    pieces = list(runner.stream(GenerationRequest([5, 6], 30), result))
    assert all(pieces)
    assert [token for piece in pieces for token in piece] == result.token_ids
    assert [len(piece) for piece in pieces] == [1, *(r.produced for r in result.rounds)]


def test_a_failing_drafter_costs_speed_and_nothing_else() -> None:
    runner, _, draft = generator(Language(), [3])
    step, draft_steps = draft.step, []

    def fail_later(*args: Any, **kwargs: Any) -> Any:
        draft_steps.append(1)
        if len(draft_steps) == 3:
            raise RuntimeError("no more memory")
        return step(*args, **kwargs)

    draft.step = fail_later
    with pytest.warns(RuntimeWarning, match="no more memory"):
        result = runner.run(GenerationRequest([5, 6], 24))
    assert result.token_ids == Language().continuation([5, 6], 24, CONTEXT)[0]
    assert len(draft_steps) == 3
    assert [r.proposed for r in result.rounds[:3]] == [BLOCK, BLOCK, 0]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (GenerationRequest([], 4), "the prompt has no tokens"),
        (GenerationRequest([5], 0), "max_new_tokens is 0"),
        (GenerationRequest([5] * CONTEXT, 4), f"has {CONTEXT} tokens"),
        (GenerationRequest([5, VOCAB], 4), f"token id {VOCAB} lies outside"),
        (GenerationRequest([-1], 4), "token id -1 lies outside"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_requests_are_refused_before_any_work(request_: GenerationRequest, message: str) -> None:
    runner, verify, draft = generator(Language())
    with pytest.raises(RequestError, match=message) as caught:
        runner.run(request_)
    assert caught.value.hint
    assert (verify.calls, verify.slots, draft.slots) == ([], [], [])


@pytest.mark.parametrize(
    ("choices", "drafts", "accepted", "following"),
    [
        ([4, 5, 6, 7], [4, 5, 6], 3, 7),  # all
        ([4, 5, 6, 7], [9, 5, 6], 0, 4),  # none, though the rest agrees
        ([4, 5, 6, 7], [4, 9, 6], 1, 5),
        ([4, 5, 6, 7], [4, 5, 9], 2, 6),
        ([4], [], 0, 4),  # nothing drafted: plain decoding
    ],
)
def test_greedy_acceptance(choices: list[int], drafts: list[int], accepted: int, following: int) -> None:
    logits = np.eye(10, dtype=np.float32)[choices]
    rows, ids = np.array([len(drafts)]), np.array([[*drafts, *[0] * (3 - len(drafts))]])
    unused = np.full((1, 3, 10), np.nan, np.float32), np.full((1, 4, 2), np.nan, np.float32)
    zero = np.zeros(1, np.float32)
    assert accept_rows(logits, ids, unused[0], rows, zero, unused[1]) == ([accepted], [following])
    tied = np.where(np.arange(10) >= np.array(choices)[:, None], np.float32(1), np.float32(0))
    assert accept_rows(tied, ids, unused[0], rows, zero, unused[1]) == ([accepted], [following])  # first index wins


@pytest.mark.parametrize(("tokens", "kept"), [([], 0), ([7, 8], 2), ([2, 7], 1), ([7, 9, 2], 2), ([7, 2, 2], 2)])
def test_first_stop(tokens: list[int], kept: int) -> None:
    assert first_stop(tokens, frozenset({2, 9})) == kept


def test_acceptance_figures() -> None:
    rounds = [Round(3, 3, 4), Round(3, 0, 1), Round(2, 1, 2), Round(0, 0, 1), Round(3, 1, 1)]
    assert accepted_length(rounds) == 9 / 5
    assert accepted_per_position(rounds, 4) == [3 / 4, 1 / 4, 1 / 3, 0.0]
    assert (accepted_length([]), accepted_per_position([], 2)) == (0.0, [0.0, 0.0])
    report = GenerationResult(4, token_ids=[1, 2], rounds=rounds).report("text")
    assert (report["text"], report["token_ids"], report["rounds"]) == ("text", [1, 2], 5)
    assert report["accepted_length"] == 1.8
    assert {"accepted_per_position", "tokens_per_second"} <= report.keys()
    assert report["seconds"].keys() == {"prefill", "draft", "verify", "other"}
