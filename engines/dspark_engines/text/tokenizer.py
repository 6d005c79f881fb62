"""Text to token ids and back, as the bundle's tokenizer/ says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from tokenizers import Tokenizer

from dspark_engines.errors import BundleError
from dspark_engines.text.spaces import clean_up_spaces

TOKENIZER_FILE = "tokenizer.json"
TEMPLATE_FILE = "chat_template.jinja"
TOKENS_FILE = "special_tokens_map.json"


class BundleTokenizer:
    """`tokenizer.json` of a bundle.

    `begin` and `end` are ids put around text that is not complete, where the model wants them. `split_special` reads
    control tokens that are spelled in a text as text; `clean_up` drops spaces in front of punctuation when decoding.
    Both are settings of transformers' tokenizers (`split_special_tokens`, `clean_up_tokenization_spaces`).
    """

    def __init__(
        self,
        folder: Path,
        begin: int | None = None,
        end: int | None = None,
        *,
        split_special: bool = False,
        clean_up: bool = False,
    ) -> None:
        path = folder / TOKENIZER_FILE
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises plain Exception
            raise BundleError(f"{path}: not a tokenizer: {error}", hint="build the bundle again") from error
        self._tokenizer.encode_special_tokens = split_special
        self._begin = [] if begin is None else [begin]
        self._end = [] if end is None else [end]
        self.clean_up = clean_up

    @cached_property
    def _byte_tokens(self) -> frozenset[int]:
        """Ids that stand for one byte each, where the decoder puts runs of them together (sentencepiece's)."""
        decoder = self._tokenizer.decoder
        if decoder is None or b'"ByteFallback"' not in decoder.__getstate__():
            return frozenset()
        ids = (self._tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in range(256))
        return frozenset(index for index in ids if index is not None)

    @cached_property
    def _silent(self) -> frozenset[int]:
        """Control tokens, which decoding leaves out."""
        added = self._tokenizer.get_added_tokens_decoder()
        return frozenset(index for index, token in added.items() if token.special)

    def ends_in_bytes(self, ids: Sequence[int]) -> bool:
        """Whether what comes next may still change the end of the text of `ids`.

        A run of byte tokens is decoded as a whole: if it is not UTF-8, every byte of it becomes a replacement mark.
        """
        if not self._byte_tokens:
            return False
        last = next((index for index in reversed(ids) if index not in self._silent), None)
        return last in self._byte_tokens

    def encode(self, text: str, *, complete: bool = False) -> list[int]:
        """Token ids of `text`; control tokens written out in it are recognised.

        `complete` text (a chat template's) holds every control token already: none is put in front or behind.
        """
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=not complete).ids
        return ids if complete else [*self._begin, *ids, *self._end]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids` without control tokens."""
        text = self.decode_as_is(ids)
        return clean_up_spaces(text) if self.clean_up else text

    def decode_as_is(self, ids: Sequence[int]) -> str:
        """The same before spaces are cleaned up."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def token(self, token_id: int | None) -> str:
        """The token's own spelling, or nothing."""
        return "" if token_id is None else self._tokenizer.id_to_token(token_id) or ""


def read_special_tokens(folder: Path) -> dict[str, str] | None:
    """The named tokens (`bos_token`, `eos_token`, …) by their spelling; None in bundles older than the file."""
    path = folder / TOKENS_FILE
    if not path.is_file():
        return None
    try:
        return TypeAdapter(dict[str, str]).validate_python(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, ValidationError):
        raise BundleError(f"{path}: not a list of tokens by name", hint="build the bundle again") from None
