"""Write a directory atomically: everything goes to a temporary one that is renamed when complete."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dspark_engines.bundle.files import check_folder, existing, output_error
from dspark_engines.bundle.interruptions import interruptions_held
from dspark_engines.bundle.neighbours import Neighbour
from dspark_engines.bundle.open import MANIFEST
from dspark_engines.bundle.place import OutputPlace, find_place
from dspark_engines.errors import OutputError


def check_destination(path: Path, *, overwrite: bool, needed_bytes: int = 0) -> None:
    """Refuse an output that cannot be written, before any heavy work. Raises `OutputError`."""
    try:
        place = find_place(path)
        _check_content(path, place, overwrite=overwrite)
        check_folder(place.folder, path)
    except OSError as error:  # a name too long, a folder that may not be searched
        raise output_error(error, path) from error
    check_room(path, needed_bytes)


def check_room(path: Path, needed_bytes: int) -> None:
    """Raises `OutputError` when the disk that `path` shall lie on has less room."""
    try:
        folder = existing(find_place(path).folder)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise output_error(error, path) from error
    if free < needed_bytes:
        raise OutputError(
            f"{folder}: {needed_bytes / 1e9:.2f} GB needed, {free / 1e9:.2f} GB free on this disk",
            hint="free some room, or choose an --output on another disk",
        )


def _check_content(path: Path, place: OutputPlace, *, overwrite: bool) -> None:
    """Nothing may be there, or an empty directory, or with `overwrite` a bundle."""
    if not place.path.exists() or (place.path.is_dir() and not place.content()):
        return
    if not overwrite:
        raise OutputError(f"{path}: already exists", hint="choose another --output, or pass --overwrite")
    if not (place.path / MANIFEST).is_file():
        raise OutputError(f"{path}: exists and is not a bundle", hint="--overwrite replaces bundles only")


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary directory; rename it to `path` on success, remove it on any failure.

    An existing `path` is replaced (callers check first) and stays in place until the new one is complete; where `path`
    is a link, what it names. A directory that has to stay (`OutputPlace`) is filled, entry by entry. Interruptions wait
    while directories are made, renamed and removed. What a killed process leaves is for `remove_leftovers`.
    Raises `OutputError` when the disk fills up or refuses to be written.
    """
    temporary: Neighbour | None = None
    new_parents: list[Path] = []
    try:
        place = find_place(path)
        new_parents = [parent for parent in place.path.parents if not parent.exists()]
        with interruptions_held():
            place.folder.mkdir(parents=True, exist_ok=True)
            temporary = place.temporary()
        temporary.path.chmod(0o755)
        yield temporary.path
        with interruptions_held():
            place.put(temporary.path)
    except OSError as error:
        raise output_error(error, path) from error
    finally:
        with interruptions_held():
            _clean_up(temporary, new_parents)


def _clean_up(temporary: Neighbour | None, new_parents: list[Path]) -> None:
    if temporary is not None:
        temporary.remove()
    for parent in new_parents:  # nearest first; those that now hold something stay
        with suppress(OSError):
            parent.rmdir()
