"""Spaces in front of punctuation, cleaned up as transformers' `clean_up_tokenization` does, whole or as text comes."""

from __future__ import annotations

REPLACEMENTS = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)
"""In this order, each over the whole text."""

CHANGING = frozenset("".join(old for old, _ in REPLACEMENTS))


def clean_up_spaces(text: str) -> str:
    """`text` after all replacements."""
    for old, new in REPLACEMENTS:
        text = text.replace(old, new)
    return text


class SpaceCleaner:
    """The same over text that comes in pieces: `push` gives what later pieces cannot change, `finish` the rest."""

    def __init__(self) -> None:
        self._held = ""

    def push(self, piece: str) -> str:
        """A character that is part of no replacement is a wall: no replacement reaches over it."""
        self._held += piece
        sure = next((end for end in range(len(self._held), 0, -1) if self._held[end - 1] not in CHANGING), 0)
        ready, self._held = self._held[:sure], self._held[sure:]
        return clean_up_spaces(ready)

    def finish(self) -> str:
        """What was held back."""
        rest, self._held = self._held, ""
        return clean_up_spaces(rest)
