"""Token ids to text as they come, without ever showing half a character."""

from __future__ import annotations

from collections.abc import Sequence

from dspark_engines.text.spaces import SpaceCleaner
from dspark_engines.text.tokenizer import BundleTokenizer

REPLACEMENT = "\ufffd"  # what a decoder writes for bytes that are not yet a character


class TextStream:
    """Incremental detokenizer: `push` ids, get the text that became certain; `finish` for the rest."""

    def __init__(self, tokenizer: BundleTokenizer) -> None:
        self._tokenizer = tokenizer
        self._cleaner = SpaceCleaner() if tokenizer.clean_up else None
        self._ids: list[int] = []
        self._start = 0  # decoding restarts here: the last cut that fell between characters, in front of some text
        self._shown = 0  # ids whose text has been given out

    def push(self, ids: Sequence[int]) -> str:
        """Text made certain by `ids`; empty while a character is incomplete."""
        self._ids.extend(ids)
        before, now = self._texts()
        if now.endswith(REPLACEMENT) or self._tokenizer.ends_in_bytes(self._ids[self._start :]):
            return ""
        if len(now) > len(before):  # ids without text stay in the window: decoders strip what comes first
            self._start = self._shown
        self._shown = len(self._ids)
        return self._cleaned(now[len(before) :])

    def finish(self) -> str:
        """Whatever is left, incomplete characters as the replacement mark."""
        before, now = self._texts()
        self._shown = len(self._ids)
        rest = self._cleaned(now[len(before) :])
        return rest if self._cleaner is None else rest + self._cleaner.finish()

    def _cleaned(self, piece: str) -> str:
        return piece if self._cleaner is None else self._cleaner.push(piece)

    def _texts(self) -> tuple[str, str]:
        decode = self._tokenizer.decode_as_is
        return decode(self._ids[self._start : self._shown]), decode(self._ids[self._start :])
