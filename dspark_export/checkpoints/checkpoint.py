"""A target and a drafter, opened but not loaded: what every dialect reads to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dspark_export.checkpoints.spec import DrafterSpec, TargetSpec
from dspark_export.checkpoints.tensors import Weights
from dspark_export.checkpoints.text import TargetText
from dspark_export.checkpoints.trained_for import NOT_RECORDED, TrainedFor


@dataclass(frozen=True, kw_only=True)
class TargetCheckpoint:
    """A target: description, weights on demand, and how its text is written.

    `files` are all files that define it, for its identity.
    """

    path: Path
    spec: TargetSpec
    weights: Weights
    text: TargetText
    files: list[Path]
    origin: str = ""
    """REPOSITORY@COMMIT of one from the Hub."""
    recorded_names: tuple[str, ...] = ()
    """What its own files call it, or the model that it was made from."""

    @property
    def names(self) -> tuple[str, ...]:
        """All that it is called, its path included."""
        return tuple(filter(None, (self.origin, *self.recorded_names, str(self.path.resolve()))))

    @property
    def quantization(self) -> str:
        """How its weights are stored where not as plain floating point."""
        return self.weights.source.quantization


@dataclass(frozen=True, kw_only=True)
class DrafterCheckpoint:
    """A drafter: description and weights on demand. `files` are all files that define it, for its identity."""

    path: Path
    spec: DrafterSpec
    weights: Weights
    files: list[Path]
    origin: str = ""
    """REPOSITORY@COMMIT of one from the Hub."""
    trained_for: TrainedFor = NOT_RECORDED
    """The target that its files say it was trained for."""


def identity_files(path: Path) -> list[Path]:
    """A directory's configs, tokenizer and weights."""
    wanted = {".json", ".jinja", ".safetensors"}
    return sorted(file for file in path.iterdir() if file.suffix in wanted)
