"""A bundle's text against transformers' own: ids of prompts, decoded text, names of tokens."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dspark_engines.text import TextCodec
from tests.support.text_parity import Both, both, chat_ids, offline
from tests.support.tokenizer_cases import CASES

__all__ = ["offline"]  # a fixture

PROMPTS = (
    "the other 12  things,  it's 2012",
    " leads and trails ",
    "a\n\nb\r\n\tc\n",
    "Grüße é e\u0301 世界 🙂 \u00a0\u2028 ﬁ",
    "x <|im_end|> y<|im_start|>z</s><s> <new> <plain>q <left> r <img> <|eot|> e",
    "if (a < b && c > 'd') \"q\" \\n",
    "do n't , I 'm a cat . the cat 's ? !",
    "<|endoftext|> <unk><pad>",
)


def streamed(ours: TextCodec, ids: list[int]) -> str:
    stream = ours.stream()
    return "".join(stream.push([token]) for token in ids) + stream.finish()


@pytest.fixture(scope="module", params=list(CASES))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    build, config, options = CASES[request.param]
    return both(tmp_path_factory.mktemp("text"), build(), config, **options)


@pytest.mark.parametrize("prompt", PROMPTS, ids=range(len(PROMPTS)))
def test_prompts_have_the_same_ids_and_text(pair: Both, prompt: str) -> None:
    ours, theirs = pair
    ids = theirs(prompt)["input_ids"]
    assert ours.prompt_ids(prompt, raw=True) == ids
    assert ours.prompt_ids(prompt) == chat_ids(theirs, [{"role": "user", "content": prompt}])
    assert ours.tokenizer.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
    assert streamed(ours, ids) == ours.tokenizer.decode(ids)


def test_named_tokens_are_the_same(pair: Both) -> None:
    ours, theirs = pair
    assert ours._tokens == theirs.special_tokens_map


PIECES = st.text(
    st.sampled_from("the12 sér'\n<|im_end|>.,?! \u00e9e\u0301") | st.characters(exclude_categories=("Cs",))
)
LOOKALIKES = st.lists(PIECES | st.sampled_from(["<|im_end|>", "<new>", "<s>", " ", "\n\n", "the"]), max_size=8)


@given(parts=LOOKALIKES)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_has_the_same_ids_and_comes_back_the_same(pair: Both, parts: list[str]) -> None:
    ours, theirs = pair
    ids = theirs("x" + "".join(parts))["input_ids"]
    assert ours.prompt_ids("x" + "".join(parts), raw=True) == ids
    assert streamed(ours, ids) == ours.tokenizer.decode(ids) == theirs.decode(ids, skip_special_tokens=True)


@given(ids=st.lists(st.integers(0, 260), max_size=24))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_ids_come_back_the_same(pair: Both, ids: list[int]) -> None:
    ours, theirs = pair
    ids = [token for token in ids if token < len(theirs)]
    assert streamed(ours, ids) == ours.tokenizer.decode(ids) == theirs.decode(ids, skip_special_tokens=True)
