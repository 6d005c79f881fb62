"""A SentencePiece vocabulary inside a GGUF file (model `llama`), rebuilt for the `tokenizers` library.

llama.cpp merges the neighbours whose joint piece scores highest, leftmost first, and spells what is left over in bytes.
That is byte-pair encoding whose merges are all pairs of pieces that make a piece, in the order of that piece's score.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tokenizers import Tokenizer, decoders, models, normalizers

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.gguf_file import CONVERT_AGAIN, GgufFile

SPACE = "▁"
MERGED = {1, 4}
"""Token types that text may be merged to: normal and user-defined."""


def sentencepiece_tokenizer(file: GgufFile, tokens: list[str], kinds: Sequence[int]) -> Tokenizer:
    """Without its special tokens. Raises `CheckpointError` where scores are missing."""
    scores = file.require("tokenizer.ggml.scores", list)
    if len(scores) != len(tokens):
        raise CheckpointError(
            f"{file.path}: {len(scores)} scores for {len(tokens)} tokens in its vocabulary", hint=CONVERT_AGAIN
        )
    vocab = {token: index for index, token in enumerate(tokens)}
    mergeable = {token for token, kind in zip(tokens, kinds, strict=True) if kind in MERGED}
    unknown = file.get("tokenizer.ggml.unknown_token_id")
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocab,
            merges=_merges(mergeable, vocab, scores),
            unk_token=None if unknown is None else tokens[unknown],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    # Words at the start are written like those behind a space, where the file says so.
    prefix = bool(file.get("tokenizer.ggml.add_space_prefix", True))
    spaces = normalizers.Replace(" ", SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), spaces]) if prefix else spaces
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    parts = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    tokenizer.decoder = decoders.Sequence(parts)
    return tokenizer


def _merges(pieces: set[str], vocab: dict[str, int], scores: Sequence[float]) -> list[tuple[str, str]]:
    """Best piece first; of the pairs that make one piece, that whose parts come first in the vocabulary."""
    ordered = sorted(pieces, key=lambda piece: (-scores[vocab[piece]], vocab[piece]))
    return [
        pair for piece in ordered for pair in sorted(_pairs(piece, pieces), key=lambda p: (vocab[p[0]], vocab[p[1]]))
    ]


def _pairs(piece: str, pieces: set[str]) -> Iterator[tuple[str, str]]:
    for cut in range(1, len(piece)):
        if piece[:cut] in pieces and piece[cut:] in pieces:
            yield piece[:cut], piece[cut:]
