"""Write a directory atomically: everything goes to a temporary neighbour that is renamed when complete."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import BaseModel

from dspark_engines.bundle.interruptions import interruptions_held
from dspark_engines.bundle.neighbours import OLD, PARTIAL, Neighbour, make_neighbour
from dspark_engines.errors import OutputError


def check_destination(path: Path, *, overwrite: bool, needed_bytes: int = 0) -> None:
    """Refuse an output that cannot be written, before any heavy work. Raises `OutputError`."""
    try:
        _check_place(path, overwrite=overwrite)
    except OSError as error:  # a name too long, a folder that may not be searched
        raise _output_error(error, path) from error
    check_room(path, needed_bytes)


def check_room(path: Path, needed_bytes: int) -> None:
    """Raises `OutputError` when the disk that `path` shall lie on has less room."""
    try:
        free = shutil.disk_usage(_existing_parent(path)).free
    except OSError as error:
        raise _output_error(error, path) from error
    if free < needed_bytes:
        raise OutputError(
            f"{_existing_parent(path)}: {needed_bytes / 1e9:.2f} GB needed, {free / 1e9:.2f} GB free on this disk",
            hint="free some room, or choose an --output on another disk",
        )


def _check_place(path: Path, *, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: already exists", hint="choose another --output, or pass --overwrite")
    if path.exists() and not (path / "manifest.json").is_file() and (path.is_file() or any(path.iterdir())):
        raise OutputError(f"{path}: exists and is not a bundle", hint="--overwrite replaces bundles only")
    parent = _existing_parent(path)
    if not parent.is_dir():
        raise OutputError(f"{parent}: is not a directory", hint="choose another --output")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{parent}: not writable", hint="choose another --output, or change its permissions")


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary directory beside `path`; rename it to `path` on success, remove it on any failure.

    An existing `path` is replaced (callers check first) and stays in place until the new one is complete. Interruptions
    wait while directories are made, renamed and removed. What a killed process leaves is for `remove_leftovers`.
    Raises `OutputError` when the disk fills up or refuses to be written.
    """
    temporary: Neighbour | None = None
    new_parents = [parent for parent in path.absolute().parents if not parent.exists()]
    try:
        with interruptions_held():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = make_neighbour(path, PARTIAL)
        temporary.path.chmod(0o755)
        yield temporary.path
        with interruptions_held():
            _swap(temporary.path, path)
    except OSError as error:
        raise _output_error(error, path) from error
    finally:
        with interruptions_held():
            _clean_up(temporary, new_parents)


def _clean_up(temporary: Neighbour | None, new_parents: list[Path]) -> None:
    if temporary is not None:
        temporary.remove()
    for parent in new_parents:  # nearest first; those that now hold something stay
        with suppress(OSError):
            parent.rmdir()


def _swap(temporary: Path, path: Path) -> None:
    if not path.exists():
        temporary.rename(path)
        return
    old = make_neighbour(path, OLD)
    kept = old.path / path.name
    try:
        path.rename(kept)
        temporary.rename(path)
    except BaseException:
        if kept.exists() and not path.exists():
            kept.rename(path)
        raise
    finally:
        old.remove()


def _existing_parent(path: Path) -> Path:
    parent = path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    return parent


def _output_error(error: OSError, path: Path) -> OutputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f"{path}: the disk is full", hint="free some room, or choose another --output")
    return OutputError(
        f"{path}: cannot be written: {error.strerror or error}", hint="choose another --output, or fix its permissions"
    )


def save_model(model: BaseModel, path: Path) -> Path:
    """Write a part of a bundle as JSON, in one rename; its folder is made."""
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(PARTIAL)
    partial.write_text(model.model_dump_json(indent=1) + "\n", "utf-8")
    partial.replace(path)
    return path
