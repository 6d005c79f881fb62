"""What killed processes left for an output: removed, after an output that one of them was moving is whole again."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path

from dspark_engines.bundle.neighbours import OLD, PARTIAL, find_neighbours
from dspark_engines.bundle.open import MANIFEST
from dspark_engines.bundle.place import find_place, manifest_last


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left beside `path` or in it, and mend an output that one of them was moving.

    Whatever cannot be read, locked or removed stays: it is not worth failing for.
    """
    with suppress(OSError):
        path = find_place(path).path
    for suffix in (OLD, PARTIAL):
        for folder in (path.parent, path):
            for leftover in find_neighbours(path, suffix, folder):
                with suppress(OSError):
                    _remove_unheld(leftover, path)


def _remove_unheld(leftover: Path, path: Path) -> None:
    lock = os.open(leftover, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if leftover.parent == path:
            _mend_within(leftover, path)
        elif (leftover / path.name).is_dir() and leftover.suffix == OLD and not path.exists():
            (leftover / path.name).rename(path)
        shutil.rmtree(leftover)
    finally:
        os.close(lock)


def _mend_within(leftover: Path, path: Path) -> None:
    """A directory that stays was being filled, entry by entry, the manifest last.

    What had been moved away comes back. Where nothing had been, the new bundle was complete: the rest of it follows.
    """
    moving = any(entry.name in ("onnx", "engines", "tokenizer") for entry in path.iterdir())
    if (path / MANIFEST).exists() or not (leftover / MANIFEST).is_file():
        return
    if leftover.suffix == PARTIAL and not moving:
        return
    for entry in manifest_last(leftover.iterdir()):
        target = path / entry.name
        if target.is_dir():
            shutil.rmtree(target)
        entry.replace(target)
