"""The plain loop that measures accepted lengths: the target's own answer, whatever is drafted, and counts by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.support.training_data import VOCABULARY, tiny_llama
from training.measuring import Tally, answer, measure, report

PROMPT = torch.tensor([5, 9, 31, 7])
NEVER = VOCABULARY


def greedy(tokens: int) -> list[int]:
    model = tiny_llama()
    out = model.generate(PROMPT[None], max_new_tokens=tokens, do_sample=False, eos_token_id=NEVER)
    return out[0, len(PROMPT) :].tolist()


def right_for(first: int, depth: int = 4) -> object:
    """Drafts whose first so many tokens are the answer's, and whose others are not."""
    text = greedy(40)

    def propose(ids: Tensor, taps: Tensor, last: Tensor) -> list[int]:
        assert len(taps) == len(last) == len(ids) - 1
        done = len(ids) - len(PROMPT)
        known = text[done : done + depth]
        return [token if i < first else (token + 1) % VOCABULARY for i, token in enumerate(known)]

    return propose


@pytest.mark.parametrize("first", [0, 1, 3, 4])
def test_answers_are_the_targets_own_and_rounds_are_counted(first: int) -> None:
    tally = Tally()
    tokens = answer(tiny_llama(), right_for(first), PROMPT, 1 + 3 * (first + 1), NEVER, tally)  # type: ignore[arg-type]
    assert tokens == greedy(len(tokens))
    assert (tally.rounds, tally.tokens) == ({first: 3}, 3 * (first + 1))
    assert tally.length == first + 1
    assert tally.survival(4) == [float(k <= first) for k in (1, 2, 3, 4)]


def test_states_are_those_of_the_text_that_was_kept() -> None:
    seen: list[Tensor] = []

    def propose(ids: Tensor, taps: Tensor, last: Tensor) -> list[int]:
        seen.append(torch.cat([taps, last], -1))
        return [int(ids[-1]), 3]

    tokens = answer(tiny_llama(), propose, PROMPT, 8, NEVER, Tally())
    ids = torch.cat([PROMPT, torch.tensor(tokens)])[: len(seen[-1])]
    whole = tiny_llama()(ids[None], output_hidden_states=True).hidden_states
    want = torch.cat([*(whole[layer + 1][0] for layer in (1, 2, 3, 5, 6)), whole[-1][0]], -1)
    torch.testing.assert_close(seen[-1], want, rtol=1e-4, atol=1e-4)


def test_an_answer_ends_with_the_end() -> None:
    text = greedy(12)
    end = next(token for token in text if text.index(token) >= 4)
    tally = Tally()
    tokens = answer(tiny_llama(), right_for(4), PROMPT, 40, end, tally)  # type: ignore[arg-type]
    assert tokens == text[: text.index(end) + 1]
    assert tally.tokens == len(tokens) - 1


def test_the_report_is_of_all_rounds_and_of_each_source() -> None:
    prompts = [("a", PROMPT), ("b", PROMPT + 1), ("a", PROMPT)]
    tallies = measure(tiny_llama(), lambda ids, taps, last: [0], prompts, 5, NEVER)
    found = report(tallies, 1)
    assert set(found["by_source"]) == {"a", "b"}
    assert found["rounds"] == sum(tally.rounds.total() for tally in tallies.values())
