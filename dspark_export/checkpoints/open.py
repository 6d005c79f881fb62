"""Open a target or a drafter whatever its dialect, validated as a pair before any heavy work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.checkpoint import DrafterCheckpoint, TargetCheckpoint
from dspark_export.checkpoints.consistency import check_pair
from dspark_export.checkpoints.dialects import drafter_dialect, target_dialect
from dspark_export.checkpoints.hub import fetch
from dspark_export.checkpoints.seams import get_method
from dspark_export.checkpoints.spec import DrafterSpec, TargetSpec


def open_target(path: Path) -> TargetCheckpoint:
    """Read a target of any dialect, at a path or by its name on the Hub. Raises `CheckpointError`."""
    found = fetch(path)
    return replace(target_dialect(found.path).read(found.path), origin=found.origin)


def open_drafter(path: Path, target: TargetSpec, draft_length: int | None = None) -> DrafterCheckpoint:
    """Read a drafter likewise, and hold it against `target`. Raises `CheckpointError`.

    `draft_length`: how many tokens a chain drafts a round; None: as its layout has it, or its reader. Blocks are as
    long as they were trained.
    """
    found = fetch(path)
    drafter = drafter_dialect(found.path).read(found.path, target)
    check_pair(path, drafter.spec, target)
    if draft_length is not None:
        drafter = replace(drafter, spec=_with_length(path, drafter.spec, draft_length))
    get_method(drafter.spec.method).check(path, drafter.spec)
    return replace(drafter, origin=found.origin)


def _with_length(path: Path, spec: DrafterSpec, length: int) -> DrafterSpec:
    """`spec` that drafts `length` tokens a round. Raises `CheckpointError` where it is a block of another length."""
    if length == spec.draft_length:
        return spec
    if spec.chain is None:
        raise CheckpointError(
            f"{path}: drafts blocks of {spec.draft_length} tokens, not {length}",
            hint="leave --draft-length out: it is for drafters that draft one token after the other",
        )
    return replace(spec, block_size=length)
