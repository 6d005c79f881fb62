"""What a build is asked to make, validated before any heavy work."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from dspark_engines.backends import CompileOptions, get_backend
from dspark_engines.bundle import Limits, Precision, Role, check_destination, check_room
from dspark_engines.errors import CheckpointError, OutputError
from dspark_export.checkpoints import (
    DrafterCheckpoint,
    TargetCheckpoint,
    check_vocabulary,
    open_drafter,
    open_target,
    reduce_drafter,
)
from dspark_export.checkpoints.tensors import Shape

BYTES_PER_WEIGHT = 4
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
    overwrite: bool = False
    speculation: bool = True
    precision: Precision = "fp32"
    keep: tuple[str, ...] = ()
    """Linear layers that stay in float32 whatever the precision, such as target.layers.0.mlp.down_proj."""
    draft_vocabulary: tuple[int, ...] = ()
    """The target's tokens that are drafted; empty: those of the drafter, which usually are all."""
    coverage: float | None = None
    """Share of the target's own tokens that are among them, where it was counted."""
    options: CompileOptions = field(default_factory=CompileOptions)
    recipe: Path | None = None
    """Where these came from, for the manifest."""


@dataclass(frozen=True)
class Pair:
    """A target and the drafter that belongs to it, if there is one, opened and checked."""

    target: TargetCheckpoint
    drafter: DrafterCheckpoint | None

    @property
    def block_size(self) -> int:
        """Draft tokens a round; 0 without a drafter."""
        return 0 if self.drafter is None else self.drafter.spec.draft_length

    @property
    def block_width(self) -> int:
        """Positions that the drafter's backbone runs over a round; 0 without a drafter."""
        return 0 if self.drafter is None else self.drafter.spec.block_size

    @property
    def export_bytes(self) -> int:
        """Size of the exported weights, in float32."""
        tables = [opened.weights.shapes for opened in (self.target, self.drafter) if opened is not None]
        return sum(_size(shape) for table in tables for shape in table.values()) * BYTES_PER_WEIGHT

    @property
    def graph_bytes(self) -> dict[Role, int]:
        """Size of the weights that each graph computes with, in float32; tables that both share count for both."""
        weights = sum(map(_size, self.target.weights.shapes.values())) * BYTES_PER_WEIGHT
        if self.drafter is None:
            return {"verify": weights}
        target, drafter = self.target.spec, self.drafter.spec
        lines = (not drafter.own_embedding) * target.vocab_size + (not drafter.own_head) * drafter.draft_vocab_size
        drafting = sum(map(_size, self.drafter.weights.shapes.values())) + lines * target.shape.hidden_size
        return {"verify": weights, "draft": drafting * BYTES_PER_WEIGHT}


def open_pair(plan: BuildPlan) -> Pair:
    """Open both checkpoints and check everything that can be checked without loading weights.

    Raises `CheckpointError` or `OutputError`, naming what is wrong.
    """
    check_destination(plan.output, overwrite=plan.overwrite)
    _check_apart(plan)
    target = open_target(plan.target)
    drafter = None if plan.drafter is None else open_drafter(plan.drafter, target.spec, target.names)
    if plan.draft_vocabulary and drafter is not None:
        check_vocabulary("--draft-vocabulary", plan.draft_vocabulary, target.spec.vocab_size)
        drafter = reduce_drafter(drafter, plan.draft_vocabulary)
    pair = Pair(target, drafter)
    if plan.limits.context_length > target.spec.max_positions:
        raise CheckpointError(
            f"--context-length {plan.limits.context_length} is more than the target's {target.spec.max_positions} "
            "positions",
            hint=f"pass at most {target.spec.max_positions}",
        )
    engines = 0 if plan.backend is None else get_backend(plan.backend).disk_bytes(pair.graph_bytes, plan.options)
    check_room(plan.output, int(pair.export_bytes * HEADROOM) + engines)
    return pair


def _check_apart(plan: BuildPlan) -> None:
    """Raises `OutputError` when replacing the output would remove what it is built from."""
    output = Path(os.path.realpath(plan.output))
    for source in filter(None, (plan.target, plan.drafter, plan.recipe)):
        if Path(os.path.realpath(source)).is_relative_to(output):
            raise OutputError(f"{plan.output}: holds {source}, which it would replace", hint="choose another --output")


def _size(shape: Shape) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size
