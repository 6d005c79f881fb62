"""Open a target or a drafter whatever its dialect, validated as a pair before any heavy work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dspark_export.checkpoints.checkpoint import DrafterCheckpoint, TargetCheckpoint
from dspark_export.checkpoints.consistency import check_pair
from dspark_export.checkpoints.dialects import drafter_dialect, target_dialect
from dspark_export.checkpoints.hub import fetch
from dspark_export.checkpoints.seams import get_method
from dspark_export.checkpoints.spec import TargetSpec


def open_target(path: Path) -> TargetCheckpoint:
    """Read a target of any dialect, at a path or by its name on the Hub. Raises `CheckpointError`."""
    found = fetch(path)
    return replace(target_dialect(found.path).read(found.path), origin=found.origin)


def open_drafter(path: Path, target: TargetSpec) -> DrafterCheckpoint:
    """Read a drafter likewise, and hold it against `target`. Raises `CheckpointError`."""
    found = fetch(path)
    drafter = drafter_dialect(found.path).read(found.path, target)
    check_pair(path, drafter.spec, target)
    get_method(drafter.spec.method).check(path, drafter.spec)
    return replace(drafter, origin=found.origin)
