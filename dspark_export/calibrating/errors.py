"""Calibration's own errors as the user's: one line, one hint."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dspark_calibration import CalibrationError
from dspark_engines.errors import DsparkError, OutputError


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn `CalibrationError` into `DsparkError`, with its hint."""
    try:
        yield
    except CalibrationError as error:
        raise DsparkError(str(error), hint=error.hint) from error


def unwritable(path: Path, error: OSError) -> OutputError:
    """What to say when `path` could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(
            f"{path}: the disk is full", hint="free some room and run the command again: finished prompts are kept"
        )
    return OutputError(
        f"{path}: cannot be written: {error.strerror or error}", hint="choose another place, or fix its permissions"
    )
