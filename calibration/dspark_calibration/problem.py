"""What is wrong with a file from outside, in one line, whoever checked it."""

from __future__ import annotations

from pydantic import ValidationError

SHOWN = 60
"""Characters of a wrong value that are quoted."""


def first_problem(error: Exception) -> str:
    """One line on the first thing that `error` complains about.

    Of pydantic's it names the key, what is wanted and what was found; of any other it is the first line.
    """
    if not isinstance(error, ValidationError):
        return next(iter(str(error).splitlines()), type(error).__name__)
    first = error.errors(include_url=False, include_context=False)[0]
    key, message = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
    match first["type"]:
        case "missing":
            return f"missing key '{key}'"
        case "extra_forbidden":
            return f"unknown key '{key}'"
    found = " ".join(repr(first["input"])[:SHOWN].split())
    return f"{key}: {message} (found {found})" if key else message
