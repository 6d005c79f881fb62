"""A target and the drafters that belong to it, opened and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dspark_engines.bundle import ENGINELESS, Role, joined_taps
from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import DrafterCheckpoint, TargetCheckpoint
from dspark_export.checkpoints.seams import get_method
from dspark_export.checkpoints.tensors import Shape
from dspark_export.named_path import NAME

BYTES_PER_WEIGHT = 4


class NamedDrafter(NamedTuple):
    """A drafter and what it is called in its bundle."""

    name: str
    checkpoint: DrafterCheckpoint


@dataclass(frozen=True)
class Pair:
    """A target and its drafters, the one that the bundle is known by first; none where it decodes plainly."""

    target: TargetCheckpoint
    drafters: tuple[NamedDrafter, ...] = ()

    @property
    def drafter(self) -> DrafterCheckpoint | None:
        """The one that the bundle is known by."""
        return self.drafters[0].checkpoint if self.drafters else None

    @property
    def taps(self) -> tuple[int, ...]:
        """What the target's graph gives as features."""
        return joined_taps([drafter.spec.target_layer_ids for _, drafter in self.drafters])

    @property
    def chains(self) -> list[str]:
        """Methods of the drafters that draft one token after the other."""
        specs = [drafter.spec for _, drafter in self.drafters]
        return [spec.method for spec in specs if spec.chain is not None]

    @property
    def feature_size(self) -> int:
        """Width of these features."""
        return len(self.taps) * self.target.spec.shape.hidden_size

    @property
    def block_size(self) -> int:
        """Draft tokens a round of the first drafter; 0 without one."""
        return 0 if self.drafter is None else self.drafter.spec.draft_length

    @property
    def block_width(self) -> int:
        """Positions that the widest backbone runs over a round; 0 without a drafter."""
        return max((drafter.spec.block_size for _, drafter in self.drafters), default=0)

    @property
    def export_bytes(self) -> int:
        """Size of the exported weights, in float32."""
        weights = [self.target.weights, *(drafter.weights for _, drafter in self.drafters)]
        return sum(_size(shape) for each in weights for shape in each.shapes.values()) * BYTES_PER_WEIGHT

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


def name_drafters(opened: Sequence[tuple[str, DrafterCheckpoint]]) -> tuple[NamedDrafter, ...]:
    """Drafters with the names they were given, or else that of their method.

    Raises `CheckpointError` for a name that is none, is taken, or stands for something else.
    """
    named: list[NamedDrafter] = []
    for given, drafter in opened:
        name = given or get_method(drafter.spec.method).name_of(drafter.spec)
        if not NAME.fullmatch(name) or name in ENGINELESS:
            raise CheckpointError(
                f"{drafter.path}: '{name}' is no name for a drafter",
                hint=f"small letters, digits, '.', '_' and '-'; not {' or '.join(ENGINELESS)}",
            )
        if name in [other.name for other in named]:
            raise CheckpointError(
                f"{drafter.path}: there is a drafter called '{name}' already", hint="name it: --drafter NAME=PATH"
            )
        named.append(NamedDrafter(name, drafter))
    return tuple(named)


def _size(shape: Shape) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size
