"""Single files that a user asked for, or that belong to a bundle: whole or not there, and asked about beforehand."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel

from dspark_engines.bundle.neighbours import PARTIAL, short_name
from dspark_engines.errors import OutputError

PROBE_BYTES = 4096
"""A full disk may still have names to give, but no block."""
ROOM = "free some room, or choose another place"
PLACE = "choose another place, or fix its permissions"


def output_error(error: OSError, path: Path, room: str = ROOM) -> OutputError:
    """What to say when `path` could not be written; `room` is the hint for a full disk."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f"{path}: the disk is full", hint=room)
    return OutputError(f"{path}: cannot be written: {error.strerror or error}", hint=PLACE)


def write_file(path: Path, content: str | bytes) -> Path:
    """Write a file in one rename; its folder is made, and a link stays one. Raises `OutputError`.

    What is no regular file (a pipe, /dev/stdout whatever it is) is written to directly.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        if _is_device(path):
            path.write_bytes(data)
            return path
        real = Path(os.path.realpath(path))
        real.parent.mkdir(parents=True, exist_ok=True)
        replace_file(real, data)
    except OSError as error:
        raise output_error(error, path) from error
    return path


def replace_file(path: Path, data: bytes) -> None:
    """Write a file in one rename. Raises `OSError`; nothing half-written stays."""
    partial = path.with_name(f".{short_name(path)}{PARTIAL}")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # a network's disk says only here that it is full
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def save_model(model: BaseModel, path: Path) -> Path:
    """Write a part of a bundle as JSON, in one rename. Raises `OutputError`."""
    return write_file(path, model.model_dump_json(indent=1) + "\n")


def check_file_place(path: Path) -> None:
    """Raises `OutputError` when no file can be written at `path`: asked before the work whose result it shall hold."""
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not _is_device(path):
            check_folder(Path(os.path.realpath(path)).parent, path)
    except OSError as error:
        raise output_error(error, path) from error


def check_folder(folder: Path, shown: Path) -> None:
    """Try whether files can be made in `folder`, or in what there is of it. Raises `OutputError` naming `shown`."""
    there = existing(folder)
    if not there.is_dir():
        raise OutputError(f"{there}: is not a directory", hint="choose another place")
    try:
        with tempfile.TemporaryFile(dir=there, buffering=0) as file:
            file.write(bytes(PROBE_BYTES))
    except OSError as error:
        raise output_error(error, shown) from error


def _is_device(path: Path) -> bool:
    """Whether nothing may be put in its place. /dev/stdout may be a link to a file that others are writing as well."""
    return path.absolute().parts[1:2] in (("dev",), ("proc",)) or (path.exists() and not path.is_file())


def existing(path: Path) -> Path:
    """`path`, or the nearest folder above it that exists."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path
