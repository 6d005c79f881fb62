"""Weights in safetensors files, one or several with an index."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import ml_dtypes  # noqa: F401  (registers bfloat16 with NumPy, which safetensors needs)
import numpy as np
from safetensors import SafetensorError, safe_open

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.config_file import read_json
from dspark_export.checkpoints.tensors import Array, Shape, TensorSource

FLOATS = {"F32", "F16", "BF16"}
INDEX = "model.safetensors.index.json"


class SafetensorsSource(TensorSource):
    """`model.safetensors`, or the shards that `model.safetensors.index.json` names."""

    def __init__(self, directory: Path) -> None:
        self._files: dict[str, Path] = {}
        self._shapes: dict[str, Shape] = {}
        for path in _shards(directory):
            self._read_header(path)

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    def load(self, name: str) -> Array:
        with safe_open(self._files[name], "np") as file:
            return np.asarray(file.get_tensor(name), dtype=np.float32)

    def _read_header(self, path: Path) -> None:
        try:
            with safe_open(path, "np") as file:
                for name in file.keys():  # noqa: SIM118  (not a mapping)
                    view = file.get_slice(name)
                    _check_dtype(path, name, view.get_dtype())
                    self._files[name] = path
                    self._shapes[name] = tuple(view.get_shape())
        except FileNotFoundError:
            raise CheckpointError(
                f"{path}: no such file", hint="the weights must lie beside config.json as safetensors"
            ) from None
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path}: not a complete safetensors file: {error}", hint="fetch the file again"
            ) from None


def _shards(directory: Path) -> list[Path]:
    index = directory / INDEX
    if not index.exists():
        return [directory / "model.safetensors"]
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointError(f"{index}: no 'weight_map' from tensors to files", hint="fetch the index again")
    return [directory / name for name in sorted(set(weight_map.values()))]


def _check_dtype(path: Path, name: str, dtype: str) -> None:
    if dtype not in FLOATS:
        raise CheckpointError(
            f"{path}: tensor {name} is stored as {dtype}",
            hint=f"convert the checkpoint to one of {', '.join(sorted(FLOATS))} first",
        )
