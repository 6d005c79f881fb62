"""sha256 of files, in chunks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from dspark_engines.bundle.manifest import FileRecord

CHUNK = 1 << 22


def sha256_file(path: Path, advance: Callable[[int], None] | None = None) -> str:
    """Hex digest of `path`; `advance(bytes)` reports progress."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
            if advance is not None:
                advance(len(chunk))
    return digest.hexdigest()


def record_file(path: Path, root: Path, advance: Callable[[int], None] | None = None) -> FileRecord:
    """The record of `path`, named relative to `root`."""
    return FileRecord(
        path=path.relative_to(root).as_posix(), sha256=sha256_file(path, advance), bytes=path.stat().st_size
    )
