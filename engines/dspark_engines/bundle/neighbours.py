"""Temporary directories beside an output, under a lock of the process that fills them.

The system drops a process's locks when it ends, however it ends: what nobody holds was left by a killed one.
"""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PARTIAL, OLD = ".partial", ".old"
RANDOM = "????????"
"""What `tempfile` puts between prefix and suffix: eight characters, so that another output's name is not matched."""


@dataclass(frozen=True)
class Neighbour:
    """A temporary directory; `lock` is a descriptor of it."""

    path: Path
    lock: int

    def remove(self) -> None:
        """Remove the directory, unless it was renamed, and give the lock back."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.lock)


def make_neighbour(path: Path, suffix: str) -> Neighbour:
    """An empty directory beside `path`. Raises `OSError`."""
    while True:
        made = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=suffix, dir=path.parent))
        with suppress(FileNotFoundError):  # taken for a leftover before it was locked
            lock = os.open(made, os.O_RDONLY)
            with suppress(OSError):  # a file system without locks: there nothing is ever taken for a leftover
                fcntl.flock(lock, fcntl.LOCK_SH)
            if made.exists():
                return Neighbour(made, lock)
            os.close(lock)


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left beside `path`, and put back an output that one of them had taken away.

    Whatever cannot be read, locked or removed stays: it is not worth failing for.
    """
    for suffix in (OLD, PARTIAL):
        for leftover in path.parent.glob(f".{glob.escape(path.name)}.{RANDOM}{suffix}"):
            with suppress(OSError):
                _remove_unheld(leftover, path)


def _remove_unheld(leftover: Path, path: Path) -> None:
    lock = os.open(leftover, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if (leftover / path.name).is_dir() and leftover.suffix == OLD and not path.exists():
            (leftover / path.name).rename(path)
        shutil.rmtree(leftover)
    finally:
        os.close(lock)
