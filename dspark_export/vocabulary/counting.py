"""The tokens of a target by how often it says them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from dspark_engines.arrays import Ints

Tokens = Sequence[Sequence[int]]


def most_said(answers: Tokens, prompts: Tokens, size: int, vocab_size: int, always: Iterable[int] = ()) -> Ints:
    """The `size` tokens that are drafted, rising: `always`, then by count in answers, count in prompts, and id.

    A vocabulary of byte pairs has its frequent tokens in front, so that ids decide well about what was never said.
    """
    said, asked = _counts(answers, vocab_size), _counts(prompts, vocab_size)
    said[list(always)] = np.iinfo(np.int64).max
    order = np.lexsort((np.arange(vocab_size), -asked, -said))
    return np.sort(order[:size])


def coverage(vocabulary: Ints, answers: Tokens) -> float:
    """Share of the answers' tokens that are in the vocabulary; 0 without answers."""
    tokens = np.concatenate([np.asarray(answer, np.int64) for answer in answers]) if answers else np.empty(0)
    return float(np.isin(tokens, vocabulary).mean()) if tokens.size else 0.0


def held_out_coverage(answers: Tokens, prompts: Tokens, size: int, vocab_size: int, always: Iterable[int]) -> float:
    """Coverage of one half of the answers by a vocabulary that was counted on the other, both ways."""
    kept, shares = list(always), []
    for part in (0, 1):
        chosen = most_said(answers[part::2], prompts[part::2], size, vocab_size, kept)
        shares.append(coverage(chosen, answers[1 - part :: 2]))
    return sum(shares) / len(shares)


def _counts(texts: Tokens, vocab_size: int) -> Ints:
    counts = np.zeros(vocab_size, np.int64)
    for text in texts:
        counts += np.bincount(np.asarray(text, np.int64), minlength=vocab_size)
    return counts
