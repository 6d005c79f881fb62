"""What layouts of a drafter's directory share: a look at the config, and the checks that end the reading."""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.checkpoint import DrafterCheckpoint, identity_files
from dspark_export.checkpoints.config_file import parse_config, read_json
from dspark_export.checkpoints.consistency import check_pair
from dspark_export.checkpoints.expected import drafter_optional_tensors, drafter_tensors
from dspark_export.checkpoints.safetensors_source import SafetensorsSource
from dspark_export.checkpoints.spec import DrafterSpec, TargetSpec
from dspark_export.checkpoints.tensors import Weights, check_depth, check_tensors
from dspark_export.checkpoints.trained_for import NOT_RECORDED, TrainedFor


class TargetRecord(BaseModel):
    """Keys in which DeepSpec and SpecForge record the target, in a drafter's config.json."""

    model_config = ConfigDict(extra="ignore")

    target_model_name_or_path: str | None = None
    target_model_type: str | None = None
    target_text_model_type: str | None = None

    @property
    def trained_for(self) -> TrainedFor:
        """The target that they name."""
        types = tuple(filter(None, (self.target_model_type, self.target_text_model_type)))
        return TrainedFor(self.target_model_name_or_path or "", model_types=types)


def recorded_target(file: Path, data: dict[str, Any]) -> TrainedFor:
    """What `data`, read from `file`, records of the target. Raises `CheckpointError` for what are no names."""
    return parse_config(TargetRecord, file, data).trained_for


@dataclass(frozen=True)
class OpenedDrafter:
    """A drafter's directory before it is understood: `data` is its config.json, `target` what it is to draft for."""

    path: Path
    data: dict[str, Any]
    source: SafetensorsSource
    target: TargetSpec

    @property
    def file(self) -> Path:
        """The config.json."""
        return self.path / "config.json"


def peek_config(path: Path) -> dict[str, Any]:
    """The config.json of a directory, for `matches`; empty where it holds no JSON object, which `read` says."""
    try:
        return read_json(path / "config.json")
    except CheckpointError:
        return {}


def peek_tensors(path: Path) -> frozenset[str]:
    """Names of the tensors in a directory, for `matches`; none where its weights cannot be read, which `read` says."""
    with warnings.catch_warnings(), suppress(CheckpointError):
        warnings.simplefilter("ignore")
        return frozenset(SafetensorsSource(path, packed=("",)).shapes)
    return frozenset()


def check_last_tap(file: Path, key: str, said: int, tap: int, depth: int) -> None:
    """Raises `CheckpointError` where the last tap, which `key` calls `said`, is not below the target's last layer."""
    if tap >= depth - 1:
        raise CheckpointError(
            f"{file}: {key} taps {said}, which is not below the target's last layer",
            hint=f"the target has {depth} layers: this drafter was trained for another",
        )


def checked_drafter(
    path: Path, spec: DrafterSpec, weights: Weights, target: TargetSpec, trained_for: TrainedFor = NOT_RECORDED
) -> DrafterCheckpoint:
    """The drafter in the directory `path`, its sizes held against `target` and its tensors against `spec`.

    Raises `CheckpointError` naming the size or tensor that is wrong.
    """
    check_pair(path, spec, target, trained_for)  # before shapes: the clearer complaint
    check_depth(path, weights.shapes, spec.shape.num_layers)
    check_tensors(path, weights.shapes, drafter_tensors(spec), drafter_optional_tensors(spec))
    return DrafterCheckpoint(path=path, spec=spec, weights=weights, files=identity_files(path), trained_for=trained_for)
