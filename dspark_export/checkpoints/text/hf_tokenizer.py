"""The effective tokenizer of a Hugging Face directory: the one that transformers' `AutoTokenizer` ends up with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.config_file import read_json
from dspark_export.checkpoints.text.config_files import (
    DeclaredTokens,
    Entry,
    TokenizerConfig,
    declared_tokens,
    read_tokenizer_config,
    spelling,
)
from dspark_export.checkpoints.text.pipelines import Pipeline, rebuild
from dspark_export.checkpoints.text.tokenizer_class import find_pipeline


@dataclass(frozen=True)
class HfTokenizer:
    """A tokenizer, the names of its tokens, and the settings that the library's file has no place for."""

    tokenizer: Tokenizer
    names: dict[str, str]
    config: TokenizerConfig

    @property
    def json(self) -> str:
        """tokenizer.json's text.

        The library leaves a token out of text once it was a control token, whatever a later record says of it; its
        file knows only the last record.
        """
        data = json.loads(self.tokenizer.to_str())
        for token in data["added_tokens"]:
            decoded = self.tokenizer.decode([token["id"]], skip_special_tokens=True)
            token["special"] = token["special"] or decoded == ""
        return json.dumps(data, ensure_ascii=False, separators=(",", ":"))

    @property
    def clean_up_spaces(self) -> bool:
        """transformers leaves BPE alone, unless asked by a longer key: cleaning up corrupts its text."""
        config = self.config
        bpe = type(self.tokenizer.model).__name__ == "BPE"
        forced = config.clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output
        return bool(config.clean_up_tokenization_spaces and (forced or not bpe))


def read_hf_tokenizer(directory: Path, vocab_size: int) -> HfTokenizer:
    """Raises `CheckpointError` when a file is wrong, cannot be followed, or knows more ids than the model."""
    path = directory / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file", hint="save the fast tokenizer beside the model")
    text = read_text(path)
    config = read_tokenizer_config(directory)
    pipeline = find_pipeline(directory, config, read_json(directory / "config.json"), text)
    try:
        plain = Tokenizer.from_str(text)
        data = json.loads(text)
        declared = declared_tokens(directory, config, data.get("added_tokens", []))
        names = declared.spelled(_defaults(pipeline, plain.padding))
        tokenizer = plain if pipeline is None else rebuild(pipeline, data, config)
        _add_declared(tokenizer, declared, names)
        if pipeline is not None:
            _finish(tokenizer, plain, names, declared, renew=pipeline.renews_names)
    except CheckpointError:
        raise
    except Exception as error:  # the library raises plain Exception
        raise CheckpointError(f"{path}: not a tokenizer: {error}", hint="fetch the file again") from error
    _check_size(path, plain, vocab_size)
    tokenizer.no_truncation()  # transformers resets both for every text
    tokenizer.no_padding()
    return HfTokenizer(tokenizer, {name: spelling(entry) for name, entry in names.items()}, config)


def read_text(path: Path) -> str:
    """The file's text. Raises `CheckpointError`."""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not readable: {error}", hint="fetch the file again") from None


def _defaults(pipeline: Pipeline | None, padding: dict[str, Any] | None) -> dict[str, str | None]:
    """Names of tokens where no file gives one: tokenizer.json's padding names the pad token, the class the others."""
    padded: dict[str, str | None] = {} if padding is None else {"pad_token": padding["pad_token"]}
    return padded if pipeline is None else padded | dict(pipeline.names)


def _add_declared(tokenizer: Tokenizer, declared: DeclaredTokens, names: dict[str, Entry]) -> None:
    """Add what the files declare, in the order of transformers, which decides the ids of new tokens.

    Of two records of one token the later one counts.
    """
    tokens = [declared.added[index] for index in sorted(declared.added)]
    known = {token.content for token in (*tokens, *tokenizer.get_added_tokens_decoder().values())}
    new: list[Entry] = []
    for entry in (*names.values(), *declared.extra):
        if spelling(entry) not in known and entry not in new:
            new.append(entry)
    tokens += [_as_token(entry) for entry in new]
    spelled = {spelling(entry) for entry in names.values()}
    for token in tokens:
        if token.content in spelled:
            token.special = True
    tokenizer.add_tokens(tokens)


def _as_token(entry: Entry) -> AddedToken:
    return AddedToken(entry, special=True) if isinstance(entry, str) else entry.named_token()


def _finish(
    tokenizer: Tokenizer, plain: Tokenizer, names: dict[str, Entry], declared: DeclaredTokens, *, renew: bool
) -> None:
    """What stays of tokenizer.json in a tokenizer that a class built anew."""
    if plain.post_processor is not None:
        tokenizer.post_processor = plain.post_processor
    if renew:
        spelled = [spelling(entry) for entry in (*names.values(), *declared.extra)]
        tokenizer.add_tokens([AddedToken(text, special=True) for text in dict.fromkeys(spelled)])


def _check_size(path: Path, tokenizer: Tokenizer, vocab_size: int) -> None:
    size: int = max(tokenizer.get_vocab(with_added_tokens=False).values(), default=-1) + 1
    if size > vocab_size:
        raise CheckpointError(
            f"{path}: has token ids up to {size - 1}, the model's vocabulary holds {vocab_size}",
            hint="this tokenizer belongs to another model",
        )
