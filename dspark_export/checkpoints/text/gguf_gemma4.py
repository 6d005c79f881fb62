"""Gemma 4's vocabulary inside a GGUF file (model `gemma4`), rebuilt for the `tokenizers` library.

As llama.cpp's src/llama-vocab.cpp (LLAMA_VOCAB_PRE_TYPE_GEMMA4): spaces become marks, text is cut where line breaks
begin and end, and what is between is merged by the file's merges over characters. What is left over is spelled in
bytes. A run of line breaks that is a token is taken whole.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.gguf_file import CONVERT_AGAIN, GgufFile
from dspark_export.checkpoints.text.gguf_sentencepiece import SPACE

GEMMA4 = "gemma4"
LINES = r"[^\n]+|\n+"


def gemma4_tokenizer(file: GgufFile, tokens: list[str], _: Sequence[int]) -> Tokenizer:
    """Without its special tokens. Raises `CheckpointError` where merges are missing or do not give a run of breaks."""
    merges = [_pair(line) for line in file.require("tokenizer.ggml.merges", list)]
    vocab = {token: index for index, token in enumerate(tokens)}
    model = models.BPE(vocab=vocab, merges=merges, byte_fallback=True)
    _check_breaks(file, model, tokens)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(LINES), "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def _pair(line: str) -> tuple[str, str]:
    """Its parts stand on both sides of the first space behind a character."""
    cut = line.index(" ", 1)
    return line[:cut], line[cut + 1 :]


def _check_breaks(file: GgufFile, model: models.BPE, tokens: list[str]) -> None:
    """llama.cpp takes a run that is a token without looking at merges; so that ours come to the same, they must too."""
    for token in tokens:
        if token and not token.strip("\n") and [piece.value for piece in model.tokenize(token)] != [token]:
            raise CheckpointError(
                f"{file.path}: token {token!r} of its vocabulary is not what its merges make of so many line breaks",
                hint=f"{CONVERT_AGAIN}; or point at the Hugging Face directory, which carries tokenizer.json",
            )
