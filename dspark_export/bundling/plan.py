"""What a build is asked to make, validated before any heavy work."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from dspark_engines.backends import CompileOptions, get_backend
from dspark_engines.bundle import Limits, Precision, check_destination, check_room
from dspark_engines.errors import CheckpointError, OutputError
from dspark_export.bundling.pair import Pair, name_drafters
from dspark_export.checkpoints import (
    DrafterCheckpoint,
    TargetCheckpoint,
    check_vocabulary,
    open_drafter,
    open_target,
    reduce_drafter,
    with_draft_length,
)
from dspark_export.named_path import NamedPath

HEADROOM = 1.05  # graphs, tokenizer, engines without weights of their own


@dataclass(frozen=True)
class BuildPlan:
    """Where from, where to, how large. `backend` None exports without compiling."""

    target: Path
    drafter: Path | None
    """None: the bundle decodes plainly."""
    output: Path
    backend: str | None
    limits: Limits
    further: tuple[NamedPath, ...] = ()
    """More drafters over the same target, with what they are called."""
    label: str = ""
    """What the drafter is called; empty: as its method."""
    overwrite: bool = False
    speculation: bool = True
    precision: Precision = "fp32"
    keep: tuple[str, ...] = ()
    """Linear layers that stay in float32 whatever the precision, such as target.layers.0.mlp.down_proj."""
    draft_vocabulary: tuple[int, ...] = ()
    """The target's tokens that are drafted; empty: those of the drafter, which usually are all."""
    draft_length: int | None = None
    """How many tokens a chain drafts a round; None: as its layout says."""
    coverage: float | None = None
    """Share of the target's own tokens that are among them, where it was counted."""
    options: CompileOptions = field(default_factory=CompileOptions)
    recipe: Path | None = None
    """Where these came from, for the manifest."""


def open_pair(plan: BuildPlan) -> Pair:
    """Open both checkpoints and check everything that can be checked without loading weights.

    Raises `CheckpointError` or `OutputError`, naming what is wrong.
    """
    check_destination(plan.output, overwrite=plan.overwrite)
    _check_apart(plan)
    target = open_target(plan.target)
    pair = Pair(target, name_drafters([_open(named, target, plan) for named in _sources(plan)]))
    if plan.limits.context_length > target.spec.max_positions:
        raise CheckpointError(
            f"--context-length {plan.limits.context_length} is more than the target's {target.spec.max_positions} "
            "positions",
            hint=f"pass at most {target.spec.max_positions}",
        )
    engines = 0 if plan.backend is None else get_backend(plan.backend).disk_bytes(pair.graph_bytes, plan.options)
    check_room(plan.output, int(pair.export_bytes * HEADROOM) + engines)
    return pair


def _sources(plan: BuildPlan) -> list[NamedPath]:
    """Its drafters, the one that the bundle is known by first."""
    return [] if plan.drafter is None else [NamedPath(plan.label, plan.drafter), *plan.further]


def _open(named: NamedPath, target: TargetCheckpoint, plan: BuildPlan) -> tuple[str, DrafterCheckpoint]:
    """A drafter, cut down to the plan's vocabulary; further ones that come with their own keep it.

    Of several the plan's draft length is that of the chains among them.
    """
    drafter = open_drafter(named.path, target.spec, target.names)
    own, several = bool(drafter.spec.draft_vocabulary), bool(plan.further)
    if plan.draft_length is not None and (drafter.spec.chain is not None or not several):
        drafter = with_draft_length(drafter, plan.draft_length)
    if plan.draft_vocabulary and not (own and named.path != plan.drafter):
        check_vocabulary("--draft-vocabulary", plan.draft_vocabulary, target.spec.vocab_size)
        drafter = reduce_drafter(drafter, plan.draft_vocabulary)
    return named.name, drafter


def _check_apart(plan: BuildPlan) -> None:
    """Raises `OutputError` when replacing the output would remove what it is built from."""
    output, further = Path(os.path.realpath(plan.output)), [named.path for named in plan.further]
    for source in filter(None, (plan.target, plan.drafter, plan.recipe, *further)):
        if Path(os.path.realpath(source)).is_relative_to(output):
            raise OutputError(f"{plan.output}: holds {source}, which it would replace", hint="choose another --output")
