"""Text to token ids and back, as the bundle's tokenizer/ says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

from dspark_engines.errors import BundleError

TOKENIZER_FILE = "tokenizer.json"
TEMPLATE_FILE = "chat_template.jinja"


class BundleTokenizer:
    """`tokenizer.json` of a bundle. `bos_token_id` is put in front when the model wants one."""

    def __init__(self, folder: Path, bos_token_id: int | None = None) -> None:
        path = folder / TOKENIZER_FILE
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise BundleError(f"{path}: not a tokenizer: {error}", hint="build the bundle again") from error
        self._bos = bos_token_id

    def encode(self, text: str, *, complete: bool = False) -> list[int]:
        """Token ids of `text`; control tokens written out in it are recognised.

        `complete` text (a chat template's) holds every control token already: none is put in front or behind.
        """
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=not complete).ids
        return ids if complete or self._bos is None or ids[:1] == [self._bos] else [self._bos, *ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids` without control tokens."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def token(self, token_id: int | None) -> str:
        """The token's own spelling, or nothing."""
        return "" if token_id is None else self._tokenizer.id_to_token(token_id) or ""
