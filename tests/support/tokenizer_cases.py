"""Tokenizers, the configs beside them and their other files: what a bundle's text and transformers' must make alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tokenizers import Tokenizer, processors

from tests.support.tiny_text import FAST, NAMES, SPECIAL, byte_level, sentencepiece, words


def added(index: int, content: str, **flags: bool) -> dict[str, Any]:
    """An entry of `added_tokens_decoder`."""
    base = dict.fromkeys(("lstrip", "rstrip", "normalized", "single_word", "special"), False)
    return {str(index): {"content": content} | base | flags}


def post_processed(tokenizer: Tokenizer) -> Tokenizer:
    """One that puts begin and end around a text."""
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", None, [("<s>", 1), ("</s>", 2)])
    return tokenizer


def cut_and_padded(tokenizer: Tokenizer) -> Tokenizer:
    """One whose file cuts and fills up."""
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(pad_id=3, pad_token="<pad>", length=64)
    return tokenizer


def without_specials(tokenizer: Tokenizer) -> Tokenizer:
    """One whose file has the first two added tokens only."""
    data = json.loads(tokenizer.to_str())
    return Tokenizer.from_str(json.dumps(data | {"added_tokens": data["added_tokens"][:2]}))


ALL_ADDED = {k: v for i, token in enumerate(SPECIAL) for k, v in added(i, token, special=True).items()}
WRITTEN = {"__type": "AddedToken", "content": "<new>", "lstrip": True, "rstrip": False, "normalized": False}
Case = tuple[Callable[[], Tokenizer], dict[str, Any] | None, dict[str, Any]]
CASES: dict[str, Case] = {
    "no config": (byte_level, None, {}),
    "no config, qwen3": (byte_level, None, {"architecture": "qwen3"}),
    "as it is": (byte_level, FAST | NAMES, {}),
    "as it is, qwen3": (byte_level, FAST | NAMES, {"architecture": "qwen3"}),
    "an unknown class": (byte_level, {"tokenizer_class": "OurTokenizer"}, {"architecture": "qwen3"}),
    "Qwen2": (byte_level, {"tokenizer_class": "Qwen2Tokenizer"} | NAMES, {}),
    "Qwen2, unnamed": (byte_level, {"tokenizer_class": "Qwen2TokenizerFast", "pad_token": None}, {}),
    "Qwen2, flags": (
        byte_level,
        {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|eot|>"}
        | {"added_tokens_decoder": ALL_ADDED | added(6, "<|eot|>", lstrip=True, rstrip=True)},
        {},
    ),
    "GPT2 forgets digits": (lambda: byte_level(digits=True), {"tokenizer_class": "GPT2Tokenizer"} | NAMES, {}),
    "GPT2, prefix": (byte_level, {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True}, {}),
    "GPT2, padding": (lambda: cut_and_padded(byte_level()), {"tokenizer_class": "GPT2Tokenizer"}, {}),
    "Llama of bytes": (byte_level, {"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": True} | NAMES, {}),
    "Llama": (sentencepiece, {"tokenizer_class": "LlamaTokenizer"}, {}),
    "Llama, legacy": (sentencepiece, {"tokenizer_class": "LlamaTokenizerFast", "legacy": True} | NAMES, {}),
    "Llama, no prefix": (sentencepiece, {"tokenizer_class": "LlamaTokenizer", "add_prefix_space": False}, {}),
    "Llama's file as it is": (sentencepiece, FAST | NAMES, {}),
    "digits": (lambda: byte_level(digits=True), FAST | NAMES, {}),
    "cut and padded": (lambda: cut_and_padded(byte_level()), FAST, {}),
    "begin and end": (lambda: post_processed(byte_level()), FAST | NAMES | {"add_eos_token": False}, {}),
    "begin and end, Qwen2": (lambda: post_processed(byte_level()), {"tokenizer_class": "Qwen2Tokenizer"}, {}),
    "added in the config only": (
        lambda: without_specials(byte_level()),
        FAST
        | {"added_tokens_decoder": ALL_ADDED | added(400, "<new>", special=True) | added(271, "<left>", lstrip=True)},
        {},
    ),
    "flags of the config": (
        byte_level,
        FAST | NAMES | {"added_tokens_decoder": added(5, "<|im_end|>", lstrip=True, rstrip=True)},
        {},
    ),
    "single words": (byte_level, FAST | {"added_tokens_decoder": added(9, "the", single_word=True)}, {}),
    "normalized": (byte_level, FAST | {"added_tokens_decoder": added(300, "É", normalized=True)}, {}),
    "named and new": (byte_level, FAST | {"eos_token": "<new>", "image_token": "<img>", "bos_token": WRITTEN}, {}),
    "additional": (byte_level, FAST | {"additional_special_tokens": ["<new>", WRITTEN | {"content": "<img>"}]}, {}),
    "extra list": (byte_level, FAST | {"extra_special_tokens": ["<new>", "<|eot|>"]}, {}),
    "extra dict": (byte_level, FAST | {"extra_special_tokens": {"image_token": "<img>", "boi": "<new>"}}, {}),
    "both lists": (byte_level, FAST | {"extra_special_tokens": ["<new>"], "additional_special_tokens": ["<img>"]}, {}),
    "added_tokens.json": (byte_level, FAST | NAMES, {"added_tokens": {"<plain>": 301, "<new>": 300}}),
    "older names": (
        byte_level,
        FAST | {"eos_token": "</s>", "pad_token": "<pad>"},
        {"special_tokens_map": {"eos_token": "<|eot|>", "additional_special_tokens": ["<new>"], "bos_token": "<s>"}},
    ),
    "older names, list": (
        byte_level,
        FAST | {"additional_special_tokens": ["<img>"]},
        {"special_tokens_map": {"extra_special_tokens": ["<new>"], "additional_special_tokens": ["<left>"]}},
    ),
    "older names, an empty list": (
        byte_level,
        FAST | {"additional_special_tokens": []},
        {"special_tokens_map": {"additional_special_tokens": ["<img>"]}, "added_tokens": {"<new>": 271}},
    ),
    "older names, order of ids": (
        byte_level,
        FAST | {"image_token": "<new>", "extra_special_tokens": {"boi": "<plain>"}},
        {"special_tokens_map": {"audio_token": "<img>", "image_token": "<left>"}, "added_tokens": {"<img>": 275}},
    ),
    "a control token that the config calls none": (
        byte_level,
        FAST | {"added_tokens_decoder": added(6, "<|eot|>", rstrip=True)},
        {},
    ),
    "one token, two records": (
        byte_level,
        FAST | {"eos_token": "<new>", "additional_special_tokens": [WRITTEN, "<new>"], "added_tokens_decoder": {}},
        {},
    ),
    "older names, overruled": (
        byte_level,
        FAST | {"eos_token": "</s>", "added_tokens_decoder": {}},
        {"special_tokens_map": {"eos_token": "<|eot|>"}, "added_tokens": {"<new>": 300}},
    ),
    "nulls": (byte_level, FAST | {"bos_token": None, "eos_token": None, "added_tokens_decoder": ALL_ADDED}, {}),
    "specials are text": (byte_level, FAST | NAMES | {"split_special_tokens": True}, {}),
    "clean-up of words": (words, FAST | {"clean_up_tokenization_spaces": True}, {}),
    "words": (words, FAST | NAMES | {"clean_up_tokenization_spaces": False}, {}),
    "clean-up, left out for BPE": (byte_level, FAST | {"clean_up_tokenization_spaces": True}, {}),
    "clean-up, forced for BPE": (
        byte_level,
        FAST
        | {"clean_up_tokenization_spaces": True}
        | {"clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output": True},
        {},
    ),
}  # fmt: skip
