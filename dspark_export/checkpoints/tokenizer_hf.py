"""The tokenizer and chat template of a Hugging Face directory, checked before they are copied into a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.config_file import read_json

DEFAULT = "default"


def read_hf_tokenizer(directory: Path, vocab_size: int) -> str:
    """The text of tokenizer.json. Raises `CheckpointError` when it is none, or knows more ids than the model."""
    path = directory / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file", hint="save the fast tokenizer beside the model")
    text = _read_text(path)
    try:
        size: int = max(Tokenizer.from_str(text).get_vocab(with_added_tokens=False).values(), default=-1) + 1
    except Exception as error:  # the library raises plain Exception
        raise CheckpointError(f"{path}: not a tokenizer: {error}", hint="fetch the file again") from error
    if size > vocab_size:
        raise CheckpointError(
            f"{path}: has token ids up to {size - 1}, the model's vocabulary holds {vocab_size}",
            hint="this tokenizer belongs to another model",
        )
    return text


def read_hf_chat_template(directory: Path) -> str | None:
    """chat_template.jinja, or the (default) template in tokenizer_config.json, or None."""
    path, config = directory / "chat_template.jinja", directory / "tokenizer_config.json"
    if path.exists():
        return _read_text(path)
    template = read_json(config).get("chat_template") if config.exists() else None
    if isinstance(template, list):  # several, by name
        template = next((entry.get("template") for entry in template if _is_default(entry)), None)
    if template is not None and not isinstance(template, str):
        raise CheckpointError(f"{config}: chat_template is no text", hint="correct it, or remove the key")
    return template


def _is_default(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.get("name") == DEFAULT


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not readable: {error}", hint="fetch the file again") from None
