"""The tokenizer inside a GGUF file, rebuilt for the `tokenizers` library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.gguf_file import CONVERT_AGAIN, GgufFile
from dspark_export.checkpoints.text.gguf_gemma4 import GEMMA4, gemma4_tokenizer
from dspark_export.checkpoints.text.gguf_sentencepiece import sentencepiece_tokenizer
from dspark_export.checkpoints.text.gguf_stops import END_TEXTS, plain_texts

CONTROL, USER_DEFINED = 3, 4
SENTENCEPIECE = "llama"

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_SPLIT = LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")

# o200k's, of GPT-4o and gpt-oss: a word is capitals, then small letters, either of which may be missing.
CAPITALS, SMALL = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
BEFORE, CONTRACTION = r"[^\r\n\p{L}\p{N}]?", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
GPT4O_SPLIT = (
    rf"{BEFORE}{CAPITALS}*{SMALL}+{CONTRACTION}|{BEFORE}{CAPITALS}+{SMALL}*{CONTRACTION}"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _gpt2() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _smollm() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _gpt2()])


def _llama3() -> pre_tokenizers.PreTokenizer:
    return _by_pattern(LLAMA3_SPLIT)


def _qwen2() -> pre_tokenizers.PreTokenizer:
    return _by_pattern(QWEN2_SPLIT)


def _gpt4o() -> pre_tokenizers.PreTokenizer:
    return _by_pattern(GPT4O_SPLIT)


def _by_pattern(pattern: str) -> pre_tokenizers.PreTokenizer:
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


PRE_TOKENIZERS: dict[str, Callable[[], pre_tokenizers.PreTokenizer]] = {
    "gpt-2": _gpt2,
    "smollm": _smollm,
    "llama-bpe": _llama3,
    "llama-v3": _llama3,
    "llama3": _llama3,
    "falcon3": _llama3,
    "qwen2": _qwen2,
    "gpt-4o": _gpt4o,
}
LLAMA3 = frozenset(name for name, build in PRE_TOKENIZERS.items() if build is _llama3)
"""Names that llama.cpp knows for one pre-tokenizer (src/llama-vocab.cpp, LLAMA_VOCAB_PRE_TYPE_LLAMA3)."""


def read_gguf_tokenizer(file: GgufFile) -> str:
    """`tokenizer.json` text equal to the GGUF's tokenizer. Raises `CheckpointError` for another kind.

    A file without a pre-tokenizer is one of another kind. llama.cpp splits its text by rules of its own then and warns
    that quality suffers: what the model was trained with is not known, and other tokens are other prompts.
    """
    model, pre = file.require("tokenizer.ggml.model", str), file.get("tokenizer.ggml.pre")
    if model == "gpt2" and not pre:
        raise CheckpointError(
            f"{file.path}: missing key 'tokenizer.ggml.pre', which says how text is split in front of the tokenizer",
            hint=f"{CONVERT_AGAIN}; or add it, if you know it: gguf-new-metadata --pre-tokenizer NAME OLD NEW; or "
            "point at the Hugging Face directory, which carries tokenizer.json",
        )
    if model == SENTENCEPIECE:
        return _finished(file, sentencepiece_tokenizer)
    if model == GEMMA4:
        return _finished(file, gemma4_tokenizer)
    if model != "gpt2" or pre not in PRE_TOKENIZERS:
        raise CheckpointError(
            f"{file.path}: tokenizer '{'/'.join(filter(None, (model, pre)))}' is not supported from GGUF",
            hint=f"supported: {SENTENCEPIECE}, {GEMMA4}, and gpt2 with pre-tokenizer {', '.join(PRE_TOKENIZERS)}; "
            "or point at the Hugging Face directory, which carries tokenizer.json",
        )
    return _finished(file, partial(_byte_level, pre=pre))


def _byte_level(file: GgufFile, tokens: list[str], _: Sequence[int], *, pre: str) -> Tokenizer:
    merges = [tuple(line.split(" ", 1)) for line in file.require("tokenizer.ggml.merges", list)]
    whole_words = pre in LLAMA3  # Llama 3 takes a word that is in the vocabulary before it tries merges
    vocab = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=whole_words))
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()  # as transformers has it; llama.cpp takes text as it is
    tokenizer.pre_tokenizer = PRE_TOKENIZERS[pre]()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _finished(file: GgufFile, build: Callable[[GgufFile, list[str], Sequence[int]], Tokenizer]) -> str:
    """The text of what `build` makes, special tokens added."""
    tokens, kinds = file.require("tokenizer.ggml.tokens", list), file.require("tokenizer.ggml.token_type", list)
    try:
        tokenizer = build(file, tokens, kinds)
        _add_special(tokenizer, tokens, _with_ends(tokens, kinds))
    except CheckpointError:
        raise
    except Exception as error:  # the library raises plain Exception
        raise CheckpointError(f"{file.path}: its tokenizer is not consistent: {error}", hint=CONVERT_AGAIN) from error
    return str(tokenizer.to_str())


def _with_ends(tokens: list[str], kinds: list[int]) -> list[int]:
    """Kinds of the tokens; what llama.cpp knows as the end of a turn is a control token whatever the file says."""
    ends = END_TEXTS - plain_texts(tokens)
    return [CONTROL if token in ends else kind for token, kind in zip(tokens, kinds, strict=True)]


def _add_special(tokenizer: Tokenizer, tokens: list[str], kinds: list[int]) -> None:
    def of(kind: int) -> list[AddedToken]:
        special = kind == CONTROL
        return [
            AddedToken(token, special=special, normalized=False)
            for token, found in zip(tokens, kinds, strict=True)
            if found == kind
        ]

    tokenizer.add_special_tokens(of(CONTROL))
    tokenizer.add_tokens(of(USER_DEFINED))
