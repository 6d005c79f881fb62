"""Temporary directories for an output, under a lock of the process that fills them.

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
LONGEST = 200
"""Bytes of an output's name that the temporary one takes over: most file systems end names at 255."""


@dataclass(frozen=True)
class Neighbour:
    """A temporary directory; `lock` is a descriptor of it."""

    path: Path
    lock: int

    def remove(self) -> None:
        """Remove the directory, unless it was renamed, and give the lock back."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.lock)


def short_name(path: Path) -> str:
    """The name, or as much of it as leaves room for what is put around it."""
    return path.name.encode()[:LONGEST].decode("utf-8", "ignore")


def make_neighbour(path: Path, suffix: str, folder: Path | None = None) -> Neighbour:
    """An empty directory for the output `path`, in `folder` or beside it. Raises `OSError`."""
    while True:
        prefix = f".{short_name(path)}."
        made = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=folder or path.parent))
        with suppress(FileNotFoundError):  # taken for a leftover before it was locked
            lock = os.open(made, os.O_RDONLY)
            with suppress(OSError):  # a file system without locks: there nothing is ever taken for a leftover
                fcntl.flock(lock, fcntl.LOCK_SH)
            if made.exists():
                return Neighbour(made, lock)
            os.close(lock)


def find_neighbours(path: Path, suffix: str, folder: Path) -> list[Path]:
    """The temporary directories for the output `path` that are in `folder`, held or not."""
    return list(folder.glob(f".{glob.escape(short_name(path))}.{RANDOM}{suffix}"))
