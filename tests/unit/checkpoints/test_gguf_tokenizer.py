"""The tokenizer rebuilt from a real GGUF file: against transformers' own conversion, and there and back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from dspark_export.checkpoints.gguf_file import GgufFile
from dspark_export.checkpoints.text.gguf_tokenizer import read_gguf_tokenizer

ROOT = Path(__file__).resolve().parents[3]
REAL = Path(os.environ.get("DSPARK_TEST_GGUF", ROOT / "build" / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"))
TEXTS = (
    "What is the capital of France?",
    "It's 1st of May, 2024: 3.14159 + 1,000,000",
    "don't WE'LL they'Ve I'm",
    "Grüße, 世界! नमस्ते दुनिया 🙂👩‍👩‍👧 ﷽ e\u0301 \u00a0nbsp",
    "def f(x):\n\treturn {'a': [x ** 2, -1]}  # comment\n\n\nprint(f(3))\r\n",
    "a  b   c    d\n \n  \n\n\t\tindent   ",
    " leading and trailing ",
    "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|><|endoftext|>x<|im_end|><|im_end|>",
    "<|im_start |> <im_end> <filename>a.py<gh_stars>",
    "\x00\x01\x7f\ufffd\u200b",
    "",
)
# Bytes that the model's vocabulary does not hold: six control characters, lead bytes of unassigned planes.
UNKNOWN_BYTES = frozenset(b"\x04\x06\x13\x14\x16\x1d\xf1\xf2")
KNOWN = st.characters(exclude_categories=("Cs",)).filter(lambda char: not UNKNOWN_BYTES & set(char.encode()))
CODE_LIKE = st.text("  \n\t0123456789abcdefXYZ_'(){}.,;é世🙂", max_size=60)


@pytest.fixture(scope="module")
def file() -> GgufFile:
    if not REAL.is_file():
        pytest.skip(f"{REAL} is not there: make fetch downloads it")
    return GgufFile(REAL)


@pytest.fixture(scope="module")
def tokenizer(file: GgufFile) -> Tokenizer:
    return Tokenizer.from_str(read_gguf_tokenizer(file))


@pytest.fixture(scope="module")
def converted(file: GgufFile) -> Any:
    """transformers' conversion, spared from parsing the file a second time (it takes the library five seconds)."""
    transformers = pytest.importorskip("transformers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gguf, "GGUFReader", lambda *_, **__: file._reader)
        patch.setenv("HF_HUB_OFFLINE", "1")
        return transformers.AutoTokenizer.from_pretrained(str(REAL.parent), gguf_file=REAL.name)


def test_vocabulary_is_transformers(tokenizer: Tokenizer, converted: Any) -> None:
    assert tokenizer.get_vocab() == converted.get_vocab()
    assert {id: str(token) for id, token in converted.added_tokens_decoder.items()} == {
        id: token.content for id, token in tokenizer.get_added_tokens_decoder().items()
    }


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_ids_are_transformers(tokenizer: Tokenizer, converted: Any, text: str) -> None:
    assert tokenizer.encode(text).ids == converted(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_special_tokens_are_dropped_as_in_transformers(tokenizer: Tokenizer, converted: Any, text: str) -> None:
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids) == converted.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("x  12", ["x", "ĠĠ", "1", "2"]),  # every digit is cut off first, so the spaces before it stay together
        ("2024", ["2", "0", "2", "4"]),
        (" ½", ["Ġ", "Â½"]),
        ("a ٣", ["a", "Ġ", "Ù", "£"]),
    ],
)
def test_digits_stand_alone(tokenizer: Tokenizer, text: str, tokens: list[str]) -> None:
    """llama.cpp's pre-tokenizer `smollm` and the model's own tokenizer.json; transformers' conversion forgets it."""
    assert tokenizer.encode(text).tokens == tokens


@given(text=st.text(KNOWN, max_size=60) | CODE_LIKE)
@settings(max_examples=300, deadline=None)
def test_there_and_back(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == text
