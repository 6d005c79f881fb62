"""What to say when traces and fits cannot be written."""

from __future__ import annotations

import errno
from pathlib import Path

from dspark_engines.errors import OutputError


def unwritable(path: Path, error: OSError) -> OutputError:
    """What to say when `path` could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(
            f"{path}: the disk is full", hint="free some room and run the command again: finished prompts are kept"
        )
    return OutputError(
        f"{path}: cannot be written: {error.strerror or error}", hint="choose another place, or fix its permissions"
    )
