"""Text that others wrote: UTF-8 with or without a byte-order mark, and JSON and JSON Lines in it."""

from __future__ import annotations

import codecs
import io
import json
import re
from pathlib import Path
from typing import Any

from dspark_engines.errors import TextError

MARKS = (
    ("UTF-32", codecs.BOM_UTF32_LE),
    ("UTF-32", codecs.BOM_UTF32_BE),
    ("UTF-16", codecs.BOM_UTF16_LE),
    ("UTF-16", codecs.BOM_UTF16_BE),
)
"""Longer marks first: that of UTF-32 begins with that of UTF-16."""
MARK = "\ufeff"
SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a character: JSON's escapes can spell it, UTF-8 cannot hold it."""
SAVE = "save it as UTF-8"
POWERSHELL = "save it as UTF-8; in PowerShell with Out-File -Encoding utf8 instead of >"
OBJECTS = "one JSON object a line"

Numbered = tuple[int, str]
"""A line's number in its file, from 1, and its text."""


def decode_text(data: bytes, name: str) -> str:
    r"""`data` as text without its mark; line ends become \n. Raises `TextError`, whose line begins with `name`."""
    for encoding, mark in MARKS:
        if data.startswith(mark):
            raise TextError(f"{name}: not UTF-8 text: it is marked as {encoding}", hint=POWERSHELL)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        wrong = error.object[error.start]
        raise TextError(f"{name}: not UTF-8 text: byte 0x{wrong:02x} in line {line}", hint=SAVE) from None
    return io.StringIO(text, newline=None).read()


def read_text(path: Path) -> str:
    """The text in `path`. Raises `TextError` for another encoding, and `OSError`."""
    return decode_text(path.read_bytes(), str(path))


def parse_json(text: str) -> Any:
    """JSON, with NaN and Infinity as Python writes them. Raises `TextError`, which does not say where."""
    try:
        return json.loads(text)
    except RecursionError:
        raise TextError("not JSON that can be read: it is nested too deeply", hint="write it flat") from None
    except ValueError as error:  # also a number with thousands of digits
        raise TextError(f"not JSON: {error}", hint="correct it; a JSON parser shows where") from None


def read_json(path: Path) -> Any:
    """The JSON in `path`. Raises `TextError` naming `path`, and `OSError`."""
    text = read_text(path)
    try:
        return parse_json(text)
    except TextError as error:
        raise TextError(f"{path}: {error}", hint=error.hint) from None


def read_lines(path: Path) -> list[Numbered]:
    r"""The lines of a JSON Lines file that hold something, still to be parsed. Raises `TextError` and `OSError`.

    Lines end at \n alone: JSON may hold what else Python ends a line at, U+2028 say. A mark within the file, from files
    that were put together, is dropped.
    """
    lines = [line.removeprefix(MARK) for line in read_text(path).split("\n")]
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
