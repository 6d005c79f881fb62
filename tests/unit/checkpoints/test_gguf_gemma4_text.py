"""Gemma 4's text out of a GGUF file: ids as llama.cpp's own merging gives them, there and back, its turns and stops."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from dspark_export.checkpoints import open_target
from dspark_export.checkpoints.text import TargetText
from tests.support import tiny_gemma4_gguf
from tests.support.bad_gemma4_gguf import CONFIG, write
from tests.support.tiny_text import codec

VOCAB = CONFIG["vocab_size"]
TOKENS = tiny_gemma4_gguf.tokenizer(VOCAB)["tokenizer.ggml.tokens"]
RANKS = {tuple(line.split(" ")): rank for rank, line in enumerate(tiny_gemma4_gguf.MERGES)}
KNOWN = [*tiny_gemma4_gguf.SPECIAL, *tiny_gemma4_gguf.TURNS]
TEXT = st.lists(st.sampled_from([*"abceht éxñ🙂\x01\n▁<s/>", "\n\n", "  ", "the", "</s>", *KNOWN]), max_size=30).map(
    "".join
)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> TargetText:
    return open_target(write(tmp_path_factory.mktemp("gemma4") / "model.gguf")).text


@pytest.fixture(scope="module")
def tokenizer(text: TargetText) -> Tokenizer:
    return Tokenizer.from_str(text.tokenizer_json)


def merged(word: str) -> list[str]:
    """`llm_tokenizer_bpe_session` of llama.cpp's src/llama-vocab.cpp: the lowest rank first, leftmost of equals."""
    if word in TOKENS and not word.strip("\n"):
        return [word]
    pieces = list(word)
    while found := [(RANKS[pair], at) for at, pair in enumerate(pairwise(pieces)) if pair in RANKS]:
        at = min(found)[1]
        pieces[at : at + 2] = ["".join(pieces[at : at + 2])]
    spelled = ([piece] if piece in TOKENS else [f"<0x{byte:02X}>" for byte in piece.encode()] for piece in pieces)
    return [token for tokens in spelled for token in tokens]


def expected(raw: str) -> list[str]:
    """Control and user-defined tokens first; what is between them is cut at line breaks."""
    tokens: list[str] = []
    for part in re.split("(" + "|".join(map(re.escape, KNOWN)) + ")", raw):
        words = [part] if part in KNOWN else re.findall(r"[^\n]+|\n+", part.replace(" ", "▁"))
        tokens += words if part in KNOWN else [token for word in words for token in merged(word)]
    return tokens


@settings(max_examples=400, deadline=None)
@given(raw=TEXT)
def test_as_llama_cpp_merges(tokenizer: Tokenizer, raw: str) -> None:
    assert tokenizer.encode(raw, add_special_tokens=False).tokens == expected(raw)


@settings(max_examples=200, deadline=None)
@given(raw=TEXT.filter(lambda raw: "▁" not in raw))
def test_there_and_back(tokenizer: Tokenizer, raw: str) -> None:
    assert tokenizer.decode(tokenizer.encode(raw, add_special_tokens=False).ids, skip_special_tokens=False) == raw


def test_what_ends_a_turn(text: TargetText) -> None:
    """</s> closes an element of HTML here: llama.cpp takes it from the ends again, and from the control tokens."""
    assert [stop.token for stop in text.stop_tokens] == ["<eos>", "<|tool_response>", "<turn|>"]
    kept = Tokenizer.from_str(text.tokenizer_json)
    assert kept.encode("</s>", add_special_tokens=False).tokens == ["</s>"]
    assert kept.decode(kept.encode("a</s><turn|>", add_special_tokens=False).ids) == "a</s>"


@pytest.mark.parametrize("said", [True, False, None])
def test_a_prompt_begins_with_one_begin_token_whatever_the_file_says(tmp_path: Path, said: bool | None) -> None:
    text = open_target(write(tmp_path / "model.gguf", **{"tokenizer.ggml.add_bos_token": said})).text
    assert text.add_bos
    begin = TOKENS.index("<bos>")
    ours = codec(tmp_path, text, vocab_size=VOCAB, begin=begin)
    for ids in (ours.prompt_ids("the", raw=True), ours.prompt_ids("the", raw=False)):
        assert (ids[0], ids.count(begin)) == (begin, 1)
    assert ours.tokenizer.decode(ours.prompt_ids("the", raw=False)) == "user\nthe\nmodel\n"
