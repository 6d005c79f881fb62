"""A bundle's chat templates against transformers' own: where they are found, what they make of conversations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dspark_engines.errors import CheckpointError, RequestError
from tests.support import chat_templates
from tests.support.text_parity import chat_ids, offline, transformers
from tests.support.tiny_text import FAST, NAMES, byte_level, codec, read_text, write_text

__all__ = ["offline"]  # a fixture


@pytest.mark.parametrize("conversation", chat_templates.CONVERSATIONS)
@pytest.mark.parametrize("template", chat_templates.TEMPLATES)
def test_conversations_are_rendered_and_refused_alike(tmp_path: Path, template: str, conversation: str) -> None:
    source, messages = chat_templates.TEMPLATES[template], chat_templates.CONVERSATIONS[conversation]
    write_text(tmp_path, byte_level(), FAST | NAMES, template=source)
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    with pytest.warns(RuntimeWarning) if template in chat_templates.DEMANDING else chat_templates.nothing():
        ours = codec(tmp_path, read_text(tmp_path))
    for tools in (None, chat_templates.TOOLS):
        try:
            expected = chat_ids(theirs, messages, tools=tools)
        except Exception:  # a template may fail in any way
            with pytest.raises(RequestError, match=r"the chat template refuses this prompt: ."):
                ours.message_ids(messages, tools=tools)
        else:
            assert ours.message_ids(messages, tools=tools) == expected


def put(folder: Path, config_template: Any = None, **files: str) -> None:
    write_text(
        folder, config=FAST | ({} if config_template is None else {"chat_template": config_template}), template=None
    )
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.with_suffix(".jinja").write_bytes(text.encode())


NAMED = [
    {"name": "tool_use", "template": "T"},
    {"name": "default", "template": "D"},
    {"name": "default", "template": "E"},
]
PLACES: dict[str, dict[str, Any]] = {
    "nowhere": {},
    "the config": {"config_template": "C{{ messages[0].content }}"},
    "the config, line ends": {"config_template": "C\r\n\r{{ '\r\n' }}x\n"},
    "a file": {"chat_template": "F"},
    "both": {"config_template": "C", "chat_template": "F"},
    "a file, line ends": {"chat_template": "{% if true %}\r\nA\r\n{% endif %}\r\nB\r\n"},
    "a file, byte-order mark": {"chat_template": "\ufeffA"},
    "named": {"config_template": NAMED},
    "by name": {"config_template": {"default": "D", "rag": "R"}},
    "named, no default": {"config_template": [{"name": "chat", "template": "C"}]},
    "named, none": {"config_template": []},
    "a folder": {"additional_chat_templates__tool_use": "T", "chat_template": "F"},
    "a folder with the default": {"additional_chat_templates__default": "D"},
    "a folder, no default": {"additional_chat_templates__tool_use": "T", "config_template": "C"},
}


@pytest.mark.parametrize("place", PLACES)
def test_templates_are_found_in_the_same_places(tmp_path: Path, place: str) -> None:
    put(tmp_path, **PLACES[place])
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    try:
        expected = chat_ids(theirs, [{"role": "user", "content": "hi"}])
    except ValueError as error:
        if "not set" in str(error):
            assert read_text(tmp_path).chat_template is None
        else:
            with pytest.raises(CheckpointError, match='no chat template is called "default", there are: '):
                read_text(tmp_path)
    else:
        assert codec(tmp_path, read_text(tmp_path)).prompt_ids("hi") == expected


def test_a_processors_template_is_not_the_tokenizers(tmp_path: Path) -> None:
    write_text(tmp_path, config=FAST, template=None, chat_template={"chat_template": "P"})
    assert transformers.AutoTokenizer.from_pretrained(str(tmp_path)).chat_template is None
    assert read_text(tmp_path).chat_template is None
