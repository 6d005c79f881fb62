"""Drafters saved by the speculators library: dspark, dflash, eagle3 and mtp, reduced vocabularies included."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.checkpoint import DrafterCheckpoint
from dspark_export.checkpoints.config_file import read_json, write_json
from dspark_export.checkpoints.dialects.base import DrafterDialect
from dspark_export.checkpoints.dialects.draft_ids import D2T, T2D
from dspark_export.checkpoints.dialects.drafter_directory import OpenedDrafter, peek_config
from dspark_export.checkpoints.dialects.speculators_blocks import read_blocks
from dspark_export.checkpoints.dialects.speculators_config import KEY, speculators_config
from dspark_export.checkpoints.dialects.speculators_eagle3 import read_eagle3
from dspark_export.checkpoints.dialects.speculators_mtp import read_mtp
from dspark_export.checkpoints.recognition import check_directory
from dspark_export.checkpoints.safetensors_source import SafetensorsSource
from dspark_export.checkpoints.spec import TargetSpec

READERS: dict[str, Callable[[OpenedDrafter], DrafterCheckpoint]] = {
    "dspark": read_blocks,
    "dflash": read_blocks,
    "eagle3": read_eagle3,
    "mtp": read_mtp,
}
"""By `speculators_model_type`."""


class SpeculatorsDialect(DrafterDialect):
    """A directory whose config.json says `speculators_model_type`, and safetensors."""

    name = "speculators"

    def matches(self, path: Path) -> bool:
        return KEY in peek_config(path)

    def read(self, path: Path, target: TargetSpec) -> DrafterCheckpoint:
        check_directory(path)
        data = _recognised(path / "config.json")
        source = SafetensorsSource(path, integers=frozenset((D2T, T2D)))
        return READERS[data[KEY]](OpenedDrafter(path, data, source, target))

    def write(self, checkpoint: DrafterCheckpoint, folder: Path) -> None:
        spec = checkpoint.spec
        tensors: dict[str, Any] = {name: checkpoint.weights.as_stored(name) for name in checkpoint.weights}
        if spec.draft_vocabulary:
            ids = np.array(spec.draft_vocabulary, np.int64)
            flags = np.zeros(spec.vocab_size, bool)
            flags[ids] = True
            tensors |= {D2T: ids - np.arange(len(ids)), T2D: flags}
        write_json(folder / "config.json", speculators_config(spec, checkpoint.trained_for))
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _recognised(file: Path) -> dict[str, Any]:
    """The config. Raises `CheckpointError` naming a kind of speculator that is not read."""
    data = read_json(file)
    if str(data.get(KEY)) not in READERS:
        raise CheckpointError(
            f"{file}: {KEY} is {data.get(KEY)!r:.80}, not a drafter that this version reads",
            hint=f"supported: {', '.join(READERS)}",
        )
    return data
