"""What llama.cpp reads from a GGUF file beyond its tokens: begin and end tokens, stops, names; by its rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import open_target
from dspark_export.checkpoints.text import TargetText
from tests.support import tiny
from tests.support.tiny_gguf import metadata, write_gguf_target
from tests.support.tiny_text import codec

KEY = "tokenizer.ggml."
BEGINS: dict[str, tuple[dict[str, Any], bool]] = {
    "llama 3 says nothing": ({"pre": "llama-bpe", "add_bos_token": None}, True),
    "llama 3's other name": ({"pre": "llama-v3", "add_bos_token": None}, True),
    "llama 3 says no": ({"pre": "llama-bpe", "add_bos_token": False}, False),
    "gpt-2 says nothing": ({"pre": "gpt-2", "add_bos_token": None}, False),
    "gpt-2 says yes": ({"pre": "gpt-2", "add_bos_token": True}, True),
    "no begin token": ({"pre": "llama-bpe", "add_bos_token": None, "bos_token_id": None}, False),
}


def text_of(folder: Path, names: dict[int, str] | None = None, **changes: Any) -> TargetText:
    """The text of a file with some tokens renamed and some tokenizer keys changed."""
    tokens = metadata(tiny.target_spec())[f"{KEY}tokens"]
    for index, name in (names or {}).items():
        tokens[index] = name
    keys = {KEY + name: value for name, value in changes.items()}
    return open_target(write_gguf_target(folder / "model.gguf", **{f"{KEY}tokens": tokens} | keys)).text


def stops(text: TargetText) -> list[tuple[int, str, str]]:
    return [(stop.id, stop.token, stop.source.removeprefix(KEY)) for stop in text.stop_tokens]


@pytest.mark.parametrize("case", BEGINS)
def test_begin_token(tmp_path: Path, case: str) -> None:
    changes, expected = BEGINS[case]
    text = text_of(tmp_path, **changes)
    assert text.add_bos is expected
    ids = codec(tmp_path, text, vocab_size=tiny.VOCAB).prompt_ids("a", raw=True)
    assert (ids[:1] == [1], len(ids)) == (expected, 1 + expected)


def test_end_token_of_prompts(tmp_path: Path) -> None:
    text = text_of(tmp_path, add_eos_token=True)
    assert codec(tmp_path, text, vocab_size=tiny.VOCAB).prompt_ids("a", raw=True)[-1] == 2


BY_TEXT = "its text, which llama.cpp knows"
STOPS: dict[str, tuple[dict[int, str], dict[str, Any], list[tuple[int, str, str]]]] = {
    "eos": ({}, {}, [(2, "</s>", "eos_token_id")]),
    "eot and eom": (
        {},
        {"eot_token_id": 3, "eom_token_id": 0},
        [(2, "</s>", "eos_token_id"), (3, "<mask>", "eot_token_id"), (0, "<unk>", "eom_token_id")],
    ),
    "by text": (
        {3: "<|im_end|>", 60: "<|eot_id|>"},
        {},
        [(2, "</s>", "eos_token_id"), (3, "<|im_end|>", BY_TEXT), (60, "<|eot_id|>", BY_TEXT)],
    ),
    "the file's own end is another": ({}, {"eos_token_id": 3}, [(3, "<mask>", "eos_token_id"), (2, "</s>", BY_TEXT)]),
    "beyond the vocabulary": ({}, {"eot_token_id": 9999}, [(2, "</s>", "eos_token_id")]),
    "between files": (
        {60: "<|file_sep|>", 61: "<reponame>"},
        {"fim_pad_token_id": 62},
        [
            (2, "</s>", "eos_token_id"),
            (62, metadata(tiny.target_spec())[f"{KEY}tokens"][62], "fim_pad_token_id"),
            (61, "<reponame>", BY_TEXT),
            (60, "<|file_sep|>", BY_TEXT),
        ],
    ),
    "a message's end, where turns have another": (
        {60: "<|end|>", 61: "<|return|>", 62: "<|call|>"},
        {},
        [(2, "</s>", "eos_token_id"), (61, "<|return|>", BY_TEXT), (62, "<|call|>", BY_TEXT)],
    ),
}


@pytest.mark.parametrize("case", STOPS)
def test_stops(tmp_path: Path, case: str) -> None:
    names, changes, expected = STOPS[case]
    assert stops(text_of(tmp_path, names, **changes)) == expected


def test_an_end_by_its_text_is_a_control_token(tmp_path: Path) -> None:
    """llama.cpp overrides the type that the file gives it: it is found in prompts and left out of text."""
    text = text_of(tmp_path, {60: "<|im_end|>"})
    ours = codec(tmp_path, text, vocab_size=tiny.VOCAB)
    ids = ours.prompt_ids("a<|im_end|>a", raw=True)
    assert (ids[1], ours.tokenizer.decode(ids)) == (60, "aa")


def test_names_by_their_ids(tmp_path: Path) -> None:
    text = text_of(tmp_path, unknown_token_id=0, padding_token_id=3, mask_token_id=9999)
    assert text.special_tokens == {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<mask>"}


@pytest.mark.parametrize(("template", "message"), [("{% for %}", "chat template: "), (5, "chat_template is no text")])
def test_a_template_that_cannot_work(tmp_path: Path, template: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=rf"model\.gguf: .*{message}"):
        open_target(write_gguf_target(tmp_path / "model.gguf", **{"tokenizer.chat_template": template}))
