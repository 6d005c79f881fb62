"""A SentencePiece vocabulary out of a GGUF file: ids as llama.cpp's own merging gives them, and there and back."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from dspark_export.checkpoints.gguf_file import GgufFile
from dspark_export.checkpoints.text.gguf_tokenizer import read_gguf_tokenizer
from tests.support.tiny_gguf import write_gguf_target

NORMAL, CONTROL, USER_DEFINED, BYTE = 1, 3, 4, 6
SPECIAL = ["<unk>", "<s>", "</s>", "<mask>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
USERS = ["  ", "<br>"]
PIECES = ["ab", "▁a", "abc", "▁the", "th", "he", "▁t", "bc", "ca", "cab", "▁▁", "é", "ée"]
LETTERS = ["▁", "a", "b", "c", "e", "h", "t", "é"]
TOKENS = [*SPECIAL, *BYTES, *USERS, *PIECES, *LETTERS]
KINDS = [CONTROL] * 4 + [BYTE] * 256 + [USER_DEFINED] * 2 + [NORMAL] * (len(PIECES) + len(LETTERS))
SCORES = [0.0] * 262 + [-float(number) for number in range(len(PIECES) + len(LETTERS))]
TEXT = st.text("abcehté <br> \n🙂", max_size=40)


def written(folder: Path, *, prefix: bool) -> Tokenizer:
    path = write_gguf_target(
        folder / "model.gguf",
        **{
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.pre": "default",
            "tokenizer.ggml.tokens": TOKENS,
            "tokenizer.ggml.token_type": KINDS,
            "tokenizer.ggml.scores": SCORES,
            "tokenizer.ggml.merges": None,
            "tokenizer.ggml.add_space_prefix": prefix,
            "tokenizer.ggml.unknown_token_id": 0,
        },
    )
    return Tokenizer.from_str(read_gguf_tokenizer(GgufFile(path)))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return written(tmp_path_factory.mktemp("plain"), prefix=False)


@pytest.fixture(scope="module")
def prefixed(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return written(tmp_path_factory.mktemp("prefixed"), prefix=True)


def merged(text: str) -> list[str]:
    """`llm_tokenizer_spm_session` of llama.cpp's src/llama-vocab.cpp: the best pair first, leftmost of equals."""
    known, pieces = dict(zip(TOKENS, SCORES, strict=True)), list(text)
    while True:
        pairs = [a + b for a, b in pairwise(pieces)]
        found = [(-known[pair], at) for at, pair in enumerate(pairs) if pair in PIECES]
        if not found:
            break
        at = min(found)[1]
        pieces[at : at + 2] = [pairs[at]]
    spelled = ([piece] if piece in known else [f"<0x{byte:02X}>" for byte in piece.encode()] for piece in pieces)
    return [token for tokens in spelled for token in tokens]


def expected(text: str, *, prefix: bool) -> list[str]:
    """User-defined tokens first, wherever they stand; what is between them is merged."""
    tokens: list[str] = []
    for part in filter(None, re.split("(  |<br>)", text)):
        raw = ("▁" if prefix else "") + part.replace(" ", "▁")
        tokens += [part] if part in USERS else merged(raw)
    return tokens


@settings(max_examples=300, deadline=None)
@given(text=TEXT)
def test_as_llama_cpp_merges(plain: Tokenizer, text: str) -> None:
    assert plain.encode(text, add_special_tokens=False).tokens == expected(text, prefix=False)


@settings(max_examples=200, deadline=None)
@given(text=TEXT)
def test_with_a_space_in_front(prefixed: Tokenizer, text: str) -> None:
    assert prefixed.encode(text, add_special_tokens=False).tokens == expected(text, prefix=True)


@settings(max_examples=200, deadline=None)
@given(text=TEXT)
def test_there_and_back(plain: Tokenizer, text: str) -> None:
    assert plain.decode(plain.encode(text, add_special_tokens=False).ids, skip_special_tokens=False) == text


def test_control_tokens_are_not_merged_from_letters(plain: Tokenizer) -> None:
    assert plain.encode("<s>ab</s>", add_special_tokens=False).tokens == ["<s>", "ab", "</s>"]
    assert plain.encode("< s>", add_special_tokens=False).tokens[0] == "<0x3C>"
