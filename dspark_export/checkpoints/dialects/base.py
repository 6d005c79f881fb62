"""The seam between a layout on disk and what everything else knows: a spec, and weights by canonical names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Generic, TypeVar

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.checkpoint import DrafterCheckpoint, TargetCheckpoint
from dspark_export.checkpoints.spec import TargetSpec

C = TypeVar("C", TargetCheckpoint, DrafterCheckpoint)


class Dialect(ABC, Generic[C]):
    """One layout, such as "GGUF" or "DeepSpec". `name` is for messages.

    Add one by a class in a file, and a line in the registry (or `register_…_dialect`).
    """

    name: str

    @abstractmethod
    def matches(self, path: Path) -> bool:
        """Whether `path` looks like this layout. Cheap, and silent about what is damaged: `read` says that."""

    def write(self, checkpoint: C, folder: Path) -> None:
        """Write a checkpoint into an empty folder, each tensor as it is stored; reading it gives spec and weights back.

        Raises `CheckpointError` for layouts that are only read, and for what a layout cannot say.
        """
        raise CheckpointError(f"{folder}: nothing is written as {self.name}", hint="choose a layout that is written")


class TargetDialect(Dialect[TargetCheckpoint]):
    """A layout of targets."""

    @abstractmethod
    def read(self, path: Path) -> TargetCheckpoint:
        """Spec, text and (unloaded) weights; every tensor's name and shape is held against the spec.

        Raises `CheckpointError` naming the key or tensor that is wrong.
        """


class DrafterDialect(Dialect[DrafterCheckpoint]):
    """A layout of drafters."""

    @abstractmethod
    def read(self, path: Path, target: TargetSpec) -> DrafterCheckpoint:
        """The same for a drafter, whose sizes must be those of `target`."""
