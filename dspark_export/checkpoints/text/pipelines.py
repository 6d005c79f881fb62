"""Tokenizers that transformers builds anew around tokenizer.json's vocabulary and merges.

For some values of tokenizer_class, version 5 ignores the normalizer, pre-tokenizer and decoder of the file and sets up
the class's own (models/llama, models/qwen2 and models/gpt2, tokenization_*.py). These are their facts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from dspark_export.checkpoints.text.config_files import TokenizerConfig

QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
END_OF_TEXT = "<|endoftext|>"

Vocabulary = dict[str, int]
Merges = list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """One class: how it builds, which names it gives to tokens unless files do."""

    build: Callable[[Vocabulary, Merges, TokenizerConfig], Tokenizer]
    names: Mapping[str, str | None] = field(default_factory=dict)
    renews_names: bool = False
    """Whether named tokens are added again as plain control tokens, whatever flags the files gave them."""


def rebuild(pipeline: Pipeline, data: dict[str, Any], config: TokenizerConfig) -> Tokenizer:
    """The class's tokenizer without added tokens; the post-processor stays the file's.

    `data` is tokenizer.json. Raises `ValueError` when its model is no BPE.
    """
    model = data["model"]
    if model.get("type") not in (None, "BPE") or not isinstance(model.get("vocab"), dict):
        raise ValueError(f"its model is {model.get('type')}, the tokenizer_class needs BPE")
    pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in model.get("merges", []))
    return pipeline.build(model["vocab"], [(left, right) for left, right in pairs], config)


def _llama(vocab: Vocabulary, merges: Merges, config: TokenizerConfig) -> Tokenizer:
    prefix = config.add_prefix_space is not False
    scheme = ("always" if config.legacy else "first") if prefix else "never"
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefix else steps)
    return tokenizer


def _qwen2(vocab: Vocabulary, merges: Merges, config: TokenizerConfig) -> Tokenizer:
    split = pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=bool(config.add_prefix_space), use_regex=False)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _gpt2(vocab: Vocabulary, merges: Merges, config: TokenizerConfig) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bool(config.add_prefix_space))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


PIPELINES = {
    "Llama": Pipeline(build=_llama, names={"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}),
    "Qwen2": Pipeline(
        build=_qwen2,
        names=dict.fromkeys(("unk_token", "eos_token", "pad_token"), END_OF_TEXT),
        renews_names=True,
    ),
    "GPT2": Pipeline(
        build=_gpt2,
        names={"unk_token": END_OF_TEXT, "bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "pad_token": None},
    ),
}
"""By the class's name without "Tokenizer"."""
