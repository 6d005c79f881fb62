"""The files beside tokenizer.json: what they say about tokens, as transformers' `_from_pretrained` puts it together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, RootModel
from tokenizers import AddedToken

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.config_file import parse_config, read_json

CONFIG, TOKENS_MAP, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class TokenEntry(BaseModel):
    """An added token written out, in added_tokens_decoder or as the value of a name."""

    model_config = ConfigDict(extra="ignore")

    content: str
    lstrip: bool | None = None
    rstrip: bool | None = None
    single_word: bool | None = None
    normalized: bool | None = None
    special: bool | None = None
    kind: str | None = Field(default=None, alias="__type")

    def token(self) -> AddedToken:
        """For the tokenizers library; flags that are not set keep its defaults."""
        return AddedToken(self.content, **self.model_dump(exclude={"content", "kind"}, exclude_none=True))

    def named_token(self) -> AddedToken:
        """The same for the value of a name, a control token unless a complete record says otherwise."""
        special = self.kind is None if self.special is None else self.special
        return self.model_copy(update={"special": special}).token()


Entry = str | TokenEntry
Entries = list[Entry] | dict[str, Entry]


class TokenizerConfig(BaseModel):
    """The keys of tokenizer_config.json that decide about text; names of tokens are among the extra ones."""

    model_config = ConfigDict(extra="allow")

    tokenizer_class: str | None = None
    auto_map: Any = None
    fast_tokenizer_files: list[str] = []
    added_tokens_decoder: dict[NonNegativeInt, TokenEntry] | None = None
    additional_special_tokens: list[Entry] | None = None
    extra_special_tokens: Entries | None = None
    add_prefix_space: bool | None = None
    legacy: bool | None = None
    split_special_tokens: bool | None = None
    clean_up_tokenization_spaces: bool | None = None
    clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output: bool | None = None
    chat_template: Any = None


class TokensMap(BaseModel):
    """special_tokens_map.json: names of tokens, in older checkpoints."""

    model_config = ConfigDict(extra="allow")

    additional_special_tokens: list[Entry] | None = None
    extra_special_tokens: Entries | None = None


class AddedIds(RootModel[dict[str, NonNegativeInt]]):
    """added_tokens.json: tokens with their ids, in older checkpoints."""


@dataclass(frozen=True, kw_only=True)
class DeclaredTokens:
    """What the files declare. A name whose value is None is declared as not set."""

    named: Mapping[str, Entry | None]
    extra: tuple[Entry, ...]
    added: Mapping[int, AddedToken]
    """By the id that a file claims; the order counts, the tokenizer gives the ids."""

    def spelled(self, defaults: Mapping[str, str | None]) -> dict[str, Entry]:
        """Names that are set, `defaults` for those that no file mentions; the standard ones first."""
        known = {**defaults, **self.named}
        order = [*NAMED, *(name for name in known if name not in NAMED)]
        return {name: value for name in order if (value := known.get(name)) is not None}


def read_tokenizer_config(directory: Path) -> TokenizerConfig:
    """tokenizer_config.json, or an empty one. Raises `CheckpointError` naming a key that is wrong."""
    path = directory / CONFIG
    return parse_config(TokenizerConfig, path) if path.is_file() else TokenizerConfig()


def declared_tokens(directory: Path, config: TokenizerConfig, own: list[dict[str, Any]]) -> DeclaredTokens:
    """Tokens of all files. `own` are tokenizer.json's `added_tokens`.

    A config with `added_tokens_decoder` is complete: the older files, and `own`, are read only without it.
    """
    names = _names(directory / CONFIG, config)
    lists = (config.extra_special_tokens, config.additional_special_tokens)
    extra = next((tuple(entries) for entries in lists if entries and isinstance(entries, list)), ())
    if config.added_tokens_decoder is not None:
        added = {index: entry.token() for index, entry in config.added_tokens_decoder.items()}
        return DeclaredTokens(named=names.all, extra=extra, added=added)
    older = _read(TokensMap, directory / TOKENS_MAP)
    older_names = _names(directory / TOKENS_MAP, older)
    more = older.extra_special_tokens if isinstance(older.extra_special_tokens, list) else []
    plain = (*names.without(older_names), *(extra if _is_listed(config) else ()))
    special = {entry for entry in plain if isinstance(entry, str)}  # records in the config are not looked into
    special |= {spelling(entry) for entry in (*older_names.standard.values(), *more) if entry is not None}
    names = names.overruled(older_names)
    if not _is_listed(config) and older.additional_special_tokens is not None:
        extra = tuple(older.additional_special_tokens)
    added = {
        index: AddedToken(text, normalized=text not in special, special=text in special)
        for text, index in (_read(AddedIds, directory / ADDED, {}).root).items()
    }
    added |= {entry["id"]: TokenEntry.model_validate(entry).token() for entry in own}
    listed = (*extra, *(entry for entry in more if entry not in extra))
    return DeclaredTokens(named=names.all, extra=listed, added=added)


def spelling(entry: Entry) -> str:
    """The token's text."""
    return entry if isinstance(entry, str) else entry.content


@dataclass(frozen=True)
class _Names:
    """One file's names: the standard ones, others whose value is a record, others that are plain or in a dict.

    transformers keeps these apart; they decide which of two files counts and in which order new tokens get ids.
    """

    standard: dict[str, Entry | None]
    written: dict[str, Entry | None]
    plain: dict[str, Entry | None]

    @property
    def all(self) -> dict[str, Entry | None]:
        return self.standard | self.written | self.plain

    def without(self, older: _Names) -> list[Entry | None]:
        """The values of standard names that the older file does not set."""
        return [entry for name, entry in self.standard.items() if name not in older.standard]

    def overruled(self, older: _Names) -> _Names:
        """With the older file's names: its standard ones count, its others where the config has none."""
        others = older.written | older.plain
        return _Names(self.standard | older.standard, self.written | others, self.plain)


def _names(path: Path, config: TokenizerConfig | TokensMap) -> _Names:
    values = config.model_extra or {}
    others = {name: value for name, value in values.items() if name.endswith("_token") and name not in NAMED}
    more = config.extra_special_tokens if isinstance(config.extra_special_tokens, dict) else {}

    def entries(names: Mapping[str, Any]) -> dict[str, Entry | None]:
        return {name: _entry(path, name, value) for name, value in names.items()}

    return _Names(
        entries({name: values[name] for name in NAMED if name in values}),
        entries({name: value for name, value in others.items() if isinstance(value, dict)}),
        {**entries({name: value for name, value in others.items() if isinstance(value, str)}), **more},
    )


def _is_listed(config: TokenizerConfig) -> bool:
    """Whether the config has a list of further tokens, be it an empty one: the older file's list is passed over."""
    newer, present = config.extra_special_tokens, config.model_fields_set
    if "extra_special_tokens" in present and not isinstance(newer, dict):
        return True
    return "additional_special_tokens" in present and not newer


def _entry(path: Path, name: str, value: Any) -> Entry | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, dict) and isinstance(value.get("content"), str):
        return parse_config(TokenEntry, path, value)
    raise CheckpointError(f"{path}: {name} is {value!r:.60}, not a token", hint="write the token's text, or null")


def _read(model: Any, path: Path, empty: Any = None) -> Any:
    if path.is_file():
        return parse_config(model, path, read_json(path))
    return model.model_validate({} if empty is None else empty)
