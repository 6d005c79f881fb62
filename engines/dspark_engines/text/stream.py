"""Token ids to text as they come, without ever showing half a character."""

from __future__ import annotations

from collections.abc import Sequence

from dspark_engines.text.tokenizer import BundleTokenizer

REPLACEMENT = "\ufffd"  # what a decoder writes for bytes that are not yet a character


class TextStream:
    """Incremental detokenizer: `push` ids, get the text that became certain; `finish` for the rest."""

    def __init__(self, tokenizer: BundleTokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._start = 0  # decoding restarts here: the last cut that fell between characters
        self._shown = 0  # ids whose text has been given out

    def push(self, ids: Sequence[int]) -> str:
        """Text made certain by `ids`; empty while a character is incomplete."""
        self._ids.extend(ids)
        before, now = self._texts()
        if now.endswith(REPLACEMENT):
            return ""
        self._start, self._shown = self._shown, len(self._ids)
        return now[len(before) :]

    def finish(self) -> str:
        """Whatever is left, incomplete characters as the replacement mark."""
        before, now = self._texts()
        self._shown = len(self._ids)
        return now[len(before) :]

    def _texts(self) -> tuple[str, str]:
        decode = self._tokenizer.decode
        return decode(self._ids[self._start : self._shown]), decode(self._ids[self._start :])
