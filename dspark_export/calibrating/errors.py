"""What to say when traces and fits cannot be written."""

from __future__ import annotations

from pathlib import Path

from dspark_engines.bundle import output_error
from dspark_engines.errors import OutputError


def unwritable(path: Path, error: OSError) -> OutputError:
    """What to say when `path` could not be written: after a full disk, the command goes on where it was."""
    return output_error(error, path, "free some room and run the command again: finished prompts are kept")
