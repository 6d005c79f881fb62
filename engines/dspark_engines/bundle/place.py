"""Where an output goes: behind links, and into a directory that has to stay, such as a mount point."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dspark_engines.bundle.neighbours import OLD, PARTIAL, Neighbour, find_neighbours, make_neighbour
from dspark_engines.bundle.open import MANIFEST
from dspark_engines.machine import unescape_mount

MOUNTS = Path("/proc/self/mountinfo")
OF_THE_DISK = {"lost+found"}
"""What is in a new file system before anybody has written to it."""


@dataclass(frozen=True)
class OutputPlace:
    """`path` is absolute and without links. A directory that is `fixed` is filled, others are replaced."""

    path: Path
    fixed: bool

    @property
    def folder(self) -> Path:
        """Where the temporary directory goes: on the output's own disk, so that renames are enough."""
        return self.path if self.fixed else self.path.parent

    def content(self) -> list[Path]:
        """What is in the directory, but for temporary directories of its outputs."""
        if not self.path.is_dir():
            return []
        ours = {found for suffix in (PARTIAL, OLD) for found in find_neighbours(self.path, suffix, self.path)}
        return [entry for entry in self.path.iterdir() if entry not in ours and entry.name not in OF_THE_DISK]

    def temporary(self) -> Neighbour:
        """A directory to be filled. Raises `OSError`."""
        return make_neighbour(self.path, PARTIAL, self.folder)

    def put(self, made: Path) -> None:
        """Bring a directory that is complete to its place. Raises `OSError`; what was there is then there again."""
        if self.fixed:
            self._fill(made)
        elif self.path.exists() and any(self.path.iterdir()):
            self._replace(made)
        else:
            made.rename(self.path)

    def _replace(self, made: Path) -> None:
        old = make_neighbour(self.path, OLD)
        try:
            move_all([(self.path, old.path / self.path.name), (made, self.path)])
        finally:
            old.remove()

    def _fill(self, made: Path) -> None:
        """The manifest goes first and comes last: whoever looks in between finds no bundle, not half of one."""
        old = make_neighbour(self.path, OLD, self.path)
        try:
            away = [(entry, old.path / entry.name) for entry in reversed(manifest_last(self.content()))]
            move_all([*away, *((entry, self.path / entry.name) for entry in manifest_last(made.iterdir()))])
        finally:
            old.remove()


def find_place(path: Path) -> OutputPlace:
    """The place of the output `path`. Raises `OSError` for links that lead round in a circle."""
    real = Path(os.path.realpath(path))
    if real.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return OutputPlace(real, real.is_dir() and _stays(real))


def manifest_last(entries: Iterable[Path]) -> list[Path]:
    """Sorted, with what makes a directory a bundle at the end."""
    return sorted(entries, key=lambda entry: (entry.name == MANIFEST, entry.name))


def move_all(moves: Iterable[tuple[Path, Path]]) -> None:
    """Rename one after the other; when one fails, those before it are undone."""
    done: list[tuple[Path, Path]] = []
    try:
        for before, after in moves:
            before.rename(after)
            done.append((before, after))
    except BaseException:
        for before, after in reversed(done):
            after.rename(before)
        raise


def _stays(folder: Path) -> bool:
    """Whether a directory cannot be renamed over, or should not be: somebody's shell is in the current one."""
    return is_mount_point(folder) or not os.access(folder.parent, os.W_OK | os.X_OK) or folder.samefile(os.curdir)


def is_mount_point(folder: Path) -> bool:
    """Bind mounts of the same disk as well, which `os.path.ismount` does not see."""
    try:
        lines = MOUNTS.read_bytes().splitlines()
    except OSError:
        return os.path.ismount(folder)
    points = {unescape_mount(line.split(b" ")[4]) for line in lines}
    return os.fsencode(folder) in points or os.path.ismount(folder)
