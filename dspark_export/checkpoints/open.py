"""Open a target or a drafter whatever its dialect, validated as a pair before any heavy work."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.checkpoint import DrafterCheckpoint, TargetCheckpoint
from dspark_export.checkpoints.consistency import check_pair
from dspark_export.checkpoints.dialects import drafter_dialect, target_dialect
from dspark_export.checkpoints.hub import fetch
from dspark_export.checkpoints.seams import get_method
from dspark_export.checkpoints.spec import TargetSpec
from dspark_export.checkpoints.trained_for import TrainedFor, other_name


def open_target(path: Path) -> TargetCheckpoint:
    """Read a target of any dialect, at a path or by its name on the Hub. Raises `CheckpointError`."""
    found = fetch(path)
    return replace(target_dialect(found.path).read(found.path), origin=found.origin)


def open_drafter(path: Path, target: TargetSpec, names: Sequence[str] = ()) -> DrafterCheckpoint:
    """Read a drafter likewise, and hold it against `target`. Raises `CheckpointError`.

    `names`: what the target is called (`TargetCheckpoint.names`). Warns where the drafter records another model's:
    fine-tunes have names of their own, so it is no error.
    """
    found = fetch(path)
    drafter = drafter_dialect(found.path).read(found.path, target)
    check_pair(path, drafter.spec, target, drafter.trained_for)
    get_method(drafter.spec.method).check(path, drafter.spec)
    _mention_other_name(path, drafter.trained_for, names)
    return replace(drafter, origin=found.origin)


def _mention_other_name(path: Path, trained_for: TrainedFor, names: Sequence[str]) -> None:
    other = other_name(trained_for.name, names)
    if other:
        message = (
            f"{path}: trained for {trained_for.name}, and the target is called {other}: unless these are the same "
            "model, few drafts will be accepted"
        )
        warnings.warn(message, UserWarning, stacklevel=3)


def with_draft_length(drafter: DrafterCheckpoint, length: int) -> DrafterCheckpoint:
    """`drafter` that drafts `length` tokens a round, which a chain can do whatever its layout says.

    Raises `CheckpointError` where it drafts a block of another length: that is how it was trained.
    """
    spec = drafter.spec
    if length == spec.draft_length:
        return drafter
    if spec.chain is None:
        raise CheckpointError(
            f"{drafter.path}: drafts blocks of {spec.draft_length} tokens, not {length}",
            hint="leave --draft-length out: it is for drafters that draft one token after the other",
        )
    return replace(drafter, spec=replace(spec, block_size=length))
