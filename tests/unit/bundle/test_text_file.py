"""Text from outside: marks, other encodings, and JSON that no parser likes."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

import pytest

from dspark_engines.errors import TextError
from dspark_engines.text_file import decode_text, parse_json, read_json, read_lines

READ = {
    "plain": (b"caf\xc3\xa9", "caf\u00e9"),
    "with a mark": (codecs.BOM_UTF8 + b"caf\xc3\xa9", "caf\u00e9"),
    "only a mark": (codecs.BOM_UTF8, ""),
    "from Windows": (b"a\r\nb\r\n", "a\nb\n"),
    "from an old Macintosh": (b"a\rb", "a\nb"),
    "a mark inside": ("a\ufeffb".encode(), "a\ufeffb"),
}
REFUSED = {
    "UTF-16": ("a".encode("utf-16"), "it is marked as UTF-16"),
    "UTF-16, big endian": (codecs.BOM_UTF16_BE + b"\0a", "it is marked as UTF-16"),
    "UTF-32": ("a".encode("utf-32"), "it is marked as UTF-32"),
    "Latin-1": (b"one\ncaf\xe9", "byte 0xe9 in line 2"),
    "half a surrogate pair": (b"\xed\xa0\xbd", "byte 0xed in line 1"),
}


@pytest.mark.parametrize("case", READ)
def test_text_is_read(case: str) -> None:
    data, text = READ[case]
    assert decode_text(data, "file") == text


@pytest.mark.parametrize("case", REFUSED)
def test_other_encodings_are_named(case: str) -> None:
    data, problem = REFUSED[case]
    with pytest.raises(TextError) as caught:
        decode_text(data, "file")
    assert str(caught.value) == f"file: not UTF-8 text: {problem}"
    assert "save it as UTF-8" in caught.value.hint


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "1" * 5000, "\ufeff{}", ""])
def test_what_is_not_json_is_one_error(text: str) -> None:
    with pytest.raises(TextError, match=r"^not JSON"):
        parse_json(text)


def test_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(codecs.BOM_UTF8 + b'{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(TextError, match=r"a\.json: not JSON: "):
        read_json(tmp_path / "a.json")
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "no.json")


def test_lines_of_files_that_were_put_together(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    path.write_bytes(2 * (codecs.BOM_UTF8 + b'{"a": 1}\r\n\r\n'))
    assert [(number, json.loads(line)) for number, line in read_lines(path)] == [(1, {"a": 1}), (3, {"a": 1})]
