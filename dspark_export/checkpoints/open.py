"""Open a target or a drafter whatever its dialect, validated as a pair before any heavy work."""

from __future__ import annotations

from pathlib import Path

from dspark_export.checkpoints.checkpoint import DrafterCheckpoint, TargetCheckpoint
from dspark_export.checkpoints.consistency import check_pair
from dspark_export.checkpoints.dialects import drafter_dialect, target_dialect
from dspark_export.checkpoints.seams import get_method
from dspark_export.checkpoints.spec import TargetSpec


def open_target(path: Path) -> TargetCheckpoint:
    """Read a target of any dialect. Raises `CheckpointError`."""
    return target_dialect(path).read(path)


def open_drafter(path: Path, target: TargetSpec) -> DrafterCheckpoint:
    """Read a drafter of any dialect and hold it against `target`. Raises `CheckpointError`."""
    drafter = drafter_dialect(path).read(path, target)
    check_pair(path, drafter.spec, target)
    get_method(drafter.spec.method).check(path, drafter.spec)
    return drafter
