"""The chat template of a Hugging Face directory, from the places where transformers looks, in its order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.text.config_files import CONFIG, TokenizerConfig
from dspark_export.checkpoints.text.hf_tokenizer import read_text

DEFAULT = "default"
FILE, FOLDER = "chat_template.jinja", "additional_chat_templates"


def read_hf_chat_template(directory: Path, config: TokenizerConfig) -> str | None:
    """The template for plain conversations, or None where there is no template at all.

    Files (chat_template.jinja, additional_chat_templates/NAME.jinja) come before tokenizer_config.json, whose
    `chat_template` is one text, a list of {name, template}, or a dict by name. Raises `CheckpointError` when there are
    several and none is called "default". chat_template.json is a processor's, not the tokenizer's.
    """
    files = {DEFAULT: directory / FILE} if (directory / FILE).is_file() else {}
    files |= {path.name.removesuffix(".jinja"): path for path in sorted((directory / FOLDER).glob("*.jinja"))}
    if files:
        return _text(directory, _default(directory, {name: read_text(path) for name, path in files.items()}))
    template = config.chat_template
    path = directory / CONFIG
    if isinstance(template, list):
        template = dict(_named(path, entry) for entry in template)
    if isinstance(template, dict):
        return _text(path, _default(path, template))
    return None if template is None else _text(path, template)


def _default(path: Path, templates: dict[str, Any]) -> Any:
    if DEFAULT not in templates:
        raise CheckpointError(
            f'{path}: no chat template is called "{DEFAULT}", there are: {", ".join(sorted(templates)) or "none"}',
            hint=f'call one of them "{DEFAULT}", or remove all of them for a bundle that takes raw prompts only',
        )
    return templates[DEFAULT]


def _named(path: Path, entry: Any) -> tuple[str, Any]:
    if isinstance(entry, dict) and isinstance(entry.get("name"), str) and "template" in entry:
        return entry["name"], entry["template"]
    raise CheckpointError(f"{path}: chat_template has an entry without name and template", hint="correct the entry")


def _text(path: Path, template: Any) -> str:
    if not isinstance(template, str):
        raise CheckpointError(f"{path}: chat_template is no text", hint="correct it, or remove the key")
    return template
