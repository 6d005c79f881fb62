"""Tiny tokenizers of the kinds that checkpoints have, directories around them, and a bundle's codec made from one."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from dspark_engines.text import TextCodec
from dspark_export.bundling.export import export_text
from dspark_export.checkpoints.text import TargetText, read_hf_text
from tests.support import tiny
from tests.support.tiny_gguf import gguf_bytes

VOCAB = 300
SPECIAL = ("<unk>", "<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>", "<|eot|>")
MERGES = (("t", "h"), ("Ġ", "th"), ("1", "2"), ("Ġ", "1"), ("Ġ", "Ġ"), ("Ã", "©"), ("e", "r"), ("'", "s"))
FAST = {"tokenizer_class": "PreTrainedTokenizerFast"}
NAMES = {"bos_token": "<s>", "eos_token": "<|im_end|>", "unk_token": "<unk>", "pad_token": "<pad>"}


def byte_level(*, digits: bool = False) -> Tokenizer:
    """GPT-2's kind."""
    tokens = [*SPECIAL, *gguf_bytes(), *("".join(pair) for pair in MERGES)]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, list(MERGES)))
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return tokenizer


def sentencepiece() -> Tokenizer:
    """Llama 2's kind, as its own file has it: spaces are marks, unknown bytes fall back."""
    letters = [chr(code) for code in range(33, 127)]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    tokens = [*SPECIAL, *bytes_, *(letter for letter in letters if letter not in SPECIAL), "▁", "▁t", "th", "▁th"]
    merges = [("▁", "t"), ("▁t", "h"), ("t", "h")]
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", None, [("<s>", 1)])
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return tokenizer


def words() -> Tokenizer:
    """No BPE: whole words, joined by spaces, which transformers may clean up."""
    known = [*SPECIAL, "a", "cat", ".", "?", "!", ",", "'", "n't", "'m", "'s", "'ve", "'re", "I", "do", "the", "12"]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(known)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s+"), "removed")
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    return tokenizer


def write_text(
    folder: Path,
    tokenizer: Tokenizer | None = None,
    config: dict[str, Any] | None = None,
    *,
    architecture: str = "llama",
    template: str | None = tiny.TEMPLATE,
    **files: Any,
) -> Path:
    """A Hugging Face directory without weights; `files` by name without their ".json"."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": architecture, "vocab_size": VOCAB}))
    (folder / "tokenizer.json").write_text((tokenizer or byte_level()).to_str(), "utf-8")
    for name, content in ({} if config is None else {"tokenizer_config": config} | files).items():
        (folder / f"{name}.json").write_text(json.dumps(content), "utf-8")
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, "utf-8")
    return folder


def read_text(folder: Path, *, vocab_size: int = 10_000) -> TargetText:
    """What a build reads from such a directory."""
    return read_hf_text(folder, dataclasses.replace(tiny.target_spec(), vocab_size=vocab_size))


def codec(folder: Path, text: TargetText, *, vocab_size: int = 10_000, begin: int = 1) -> TextCodec:
    """The codec of a bundle that was built with `text`, its tokenizer/ written into `folder`."""
    export_text(SimpleNamespace(target=SimpleNamespace(text=text)), folder / "tokenizer")
    target = SimpleNamespace(
        vocab_size=vocab_size,
        eos_token_ids=[stop.id for stop in text.stop_tokens],
        bos_token_id=begin,
        add_bos=text.add_bos,
        add_eos=text.add_eos,
        split_special_tokens=text.split_special_tokens,
        clean_up_spaces=text.clean_up_spaces,
    )
    bundle: Any = SimpleNamespace(file=lambda name: folder / name, manifest=SimpleNamespace(target=target))
    return TextCodec(bundle)
