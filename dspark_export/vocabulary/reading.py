"""What --draft-vocabulary says: a number of tokens, or a file of their ids."""

from __future__ import annotations

from pathlib import Path

from dspark_engines.errors import DsparkError, TextError
from dspark_engines.text_file import parse_json, read_text

HINT = "a number of tokens, or a file with their ids: a JSON list, or one id a line"


def read_vocabulary(option: str) -> int | tuple[int, ...]:
    """How many tokens, or which. Raises `DsparkError`; whether the target has them is not asked."""
    if option.isascii() and option.isdigit():
        return int(option)
    path = Path(option)
    try:
        text = read_text(path)
    except OSError as error:
        raise DsparkError(f"--draft-vocabulary {option}: {error.strerror}", hint=HINT) from None
    try:
        listed = parse_json(text) if text.lstrip().startswith("[") else [int(word) for word in text.split()]
    except (TextError, ValueError):
        raise DsparkError(f"{path}: not a list of token ids", hint=HINT) from None
    if not all(isinstance(i, int) and not isinstance(i, bool) for i in listed):
        raise DsparkError(f"{path}: not a list of token ids", hint=HINT)
    return tuple(listed)
