"""A toy dialect of drafters, in one file: arrays in drafter.npz, a description in words of its own in drafter.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from dspark_export.checkpoints import ConfidenceSpec, DrafterCheckpoint, DrafterSpec, MarkovSpec, TargetSpec
from dspark_export.checkpoints.dialects import DrafterDialect
from dspark_export.checkpoints.expected import drafter_tensors
from dspark_export.checkpoints.tensors import Array, Entry, Shape, TensorSource, Weights, check_tensors

ARRAYS, DESCRIPTION = "drafter.npz", "drafter.json"


class NpzSource(TensorSource):
    """Arrays by name; the file is small enough to be read at once."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as arrays:
            self._arrays = dict(arrays)

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return {name: array.shape for name, array in self._arrays.items()}

    def load(self, name: str) -> Array:
        return np.array(self._arrays[name], np.float32)


class NpzDialect(DrafterDialect):
    """Layers are as the target's, but for their number and norms of heads."""

    name = "npz"

    def matches(self, path: Path) -> bool:
        return (path / ARRAYS).is_file()

    def read(self, path: Path, target: TargetSpec) -> DrafterCheckpoint:
        source = NpzSource(path / ARRAYS)
        weights = Weights(path, source, {name: Entry(name) for name in source.shapes})
        spec = self._spec(json.loads((path / DESCRIPTION).read_text()), target)
        check_tensors(path, weights.shapes, drafter_tensors(spec))
        return DrafterCheckpoint(path=path, spec=spec, weights=weights, files=[path / ARRAYS, path / DESCRIPTION])

    def write(self, checkpoint: DrafterCheckpoint, folder: Path) -> None:
        spec = checkpoint.spec
        words = {"depth": spec.shape.num_layers, "guesses": spec.block_size, "rank": spec.markov.rank}
        words |= {"mask": spec.mask_token_id, "reads": list(spec.target_layer_ids)}
        np.savez(folder / ARRAYS, **dict(checkpoint.weights))
        (folder / DESCRIPTION).write_text(json.dumps(words))

    def _spec(self, words: Mapping[str, int], target: TargetSpec) -> DrafterSpec:
        return DrafterSpec(
            shape=replace(target.shape, layers=(replace(target.shape.layers[0], qk_norm=True),) * words["depth"]),
            vocab_size=target.vocab_size,
            block_size=words["guesses"],
            mask_token_id=words["mask"],
            target_layer_ids=tuple(words["reads"]),  # type: ignore[arg-type]
            num_target_layers=target.shape.num_layers,
            markov=MarkovSpec("vanilla", words["rank"]),
            confidence=ConfidenceSpec(enabled=True, with_markov=True),
            own_embedding=False,
            own_head=False,
        )
