"""What a build is asked to make, validated before any heavy work."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from dspark_engines.backends import CompileOptions
from dspark_engines.bundle import Limits, Precision, check_destination
from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import DrafterCheckpoint, TargetCheckpoint, open_drafter, open_target
from dspark_export.checkpoints.tensors import Shape

BYTES_PER_WEIGHT = 4
HEADROOM = 1.05  # graphs, tokenizer, engines


@dataclass(frozen=True)
class BuildPlan:
    """Where from, where to, how large. `backend` None exports without compiling."""

    target: Path
    drafter: Path
    output: Path
    backend: str | None
    limits: Limits
    overwrite: bool = False
    speculation: bool = True
    precision: Precision = "fp32"
    keep: tuple[str, ...] = ()
    """Linear layers that stay in float32 whatever the precision, such as target.layers.0.mlp.down_proj."""
    options: CompileOptions = field(default_factory=CompileOptions)


@dataclass(frozen=True)
class Pair:
    """A target and the drafter that belongs to it, opened and checked."""

    target: TargetCheckpoint
    drafter: DrafterCheckpoint

    @property
    def export_bytes(self) -> int:
        """Size of the exported weights, in float32."""
        tables = [self.target.weights.shapes, self.drafter.weights.shapes]
        return sum(_size(shape) for table in tables for shape in table.values()) * BYTES_PER_WEIGHT


def open_pair(plan: BuildPlan) -> Pair:
    """Open both checkpoints and check everything that can be checked without loading weights.

    Raises `CheckpointError` or `OutputError`, naming what is wrong.
    """
    check_destination(plan.output, overwrite=plan.overwrite)
    target = open_target(plan.target)
    pair = Pair(target, open_drafter(plan.drafter, target.spec))
    if plan.limits.context_length > target.spec.max_positions:
        raise CheckpointError(
            f"--context-length {plan.limits.context_length} is more than the target's {target.spec.max_positions} "
            "positions",
            hint=f"pass at most {target.spec.max_positions}",
        )
    check_destination(plan.output, overwrite=plan.overwrite, needed_bytes=int(pair.export_bytes * HEADROOM))
    return pair


def _size(shape: Shape) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size
