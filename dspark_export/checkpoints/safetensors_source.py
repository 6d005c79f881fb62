"""Weights in safetensors files, one or several with an index, found as transformers finds them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from dspark_engines.arrays import Ints
from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.config_file import read_json
from dspark_export.checkpoints.recognition import check_weights_file
from dspark_export.checkpoints.safetensors_file import TYPES, StoredTensor, read_floats, read_header, read_raw
from dspark_export.checkpoints.tensors import Array, Shape, TensorSource

FLOATS = {"F32", "F16", "BF16"}
INTEGERS = {"I64", "I32", "BOOL"}
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
ROWS_AT_A_TIME = 4096


class SafetensorsSource(TensorSource):
    """`model.safetensors`; without one, the shards that `model.safetensors.index.json` names.

    The index decides which shard a tensor is read from: a shard may hold copies of tensors that belong elsewhere.
    Tensors called `integers` may be int64 or bool, and those whose names end as one of `packed` of any of `TYPES`;
    what begins as one of `without` is passed over.
    """

    def __init__(
        self,
        directory: Path,
        *,
        integers: frozenset[str] = frozenset(),
        packed: tuple[str, ...] = (),
        without: tuple[str, ...] = (),
    ) -> None:
        self._integers, self._packed, self._without = integers, packed, without
        self._tensors: dict[str, StoredTensor] = {}
        self._shapes: dict[str, Shape] = {}
        single, index = directory / SINGLE, directory / INDEX
        if single.exists() or not index.exists():
            self._read_header(single, None)
            self._mention_index(index)
            return
        owners = _weight_map(index)
        for name in sorted(set(owners.values())):
            self._read_header(directory / name, owners)
        self._check_owners(index, owners)

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    def stored(self, name: str) -> str:
        return self._tensors[name].dtype

    def load(self, name: str) -> Array:
        return read_floats(self._tensors[name])

    def load_raw(self, name: str) -> npt.NDArray[Any]:
        """A tensor in the type that it is stored in."""
        return read_raw(self._tensors[name])

    def load_integers(self, name: str) -> Ints:
        """One of the `integers`."""
        return read_raw(self._tensors[name]).astype(np.int64)

    def same(self, one: str, other: str) -> bool:
        """Whether two matrices hold the same numbers; read a few rows at a time."""
        if self._shapes[one] != self._shapes[other]:
            return False
        with safe_open(self._tensors[one].path, "np") as first, safe_open(self._tensors[other].path, "np") as second:
            left, right = first.get_slice(one), second.get_slice(other)
            rows = self._shapes[one][0]
            starts = range(0, rows, ROWS_AT_A_TIME)
            parts = (slice(start, min(start + ROWS_AT_A_TIME, rows)) for start in starts)
            return all(np.array_equal(left[part], right[part]) for part in parts)

    def _read_header(self, path: Path, owners: Mapping[str, str] | None) -> None:
        check_weights_file(path)
        with _reading(path), safe_open(path, "np") as file:
            header = read_header(path)
            for name in file.keys():  # noqa: SIM118  (not a mapping)
                if name.startswith(self._without):
                    continue
                if owners is not None and owners.get(name, path.name) != path.name:
                    continue
                if name in self._tensors:
                    other = self._tensors[name].path.name
                    raise CheckpointError(
                        f"{path}: holds tensor {name}, as {other} does, and the index names neither",
                        hint="fetch the index and the shards again: they are not of one checkpoint",
                    )
                self._check_dtype(path, name, header[name].dtype)
                self._tensors[name] = header[name]
                self._shapes[name] = header[name].shape

    def _check_dtype(self, path: Path, name: str, dtype: str) -> None:
        packed = name.endswith(self._packed) and dtype in TYPES
        if not packed and not (name in self._integers and dtype in INTEGERS):
            check_float(path, name, dtype)

    def _check_owners(self, index: Path, owners: Mapping[str, str]) -> None:
        """Every tensor of the index must be where it says."""
        for name, shard in owners.items():
            if name not in self._tensors and not name.startswith(self._without):
                raise CheckpointError(
                    f"{index}: says that {shard} holds tensor {name}, and it does not",
                    hint="fetch the index and the shards again: they are not of one checkpoint",
                )

    def _mention_index(self, index: Path) -> None:
        """An index beside a single file is what an earlier, sharded save has left; transformers does not read it."""
        if index.exists() and set(_weight_map(index).values()) != {SINGLE}:
            message = f"{index}: not read, since {SINGLE} lies beside it; remove the one that is out of date"
            warnings.warn(message, UserWarning, stacklevel=4)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: not a complete safetensors file: {error}", hint="fetch the file again"
        ) from None


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor to shard. Raises `CheckpointError` for names that are no files of the directory."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointError(f"{index}: no 'weight_map' from tensors to files", hint="fetch the index again")
    for name in weight_map.values():
        if PurePosixPath(name).name != name:
            raise CheckpointError(f"{index}: names the shard {name!r:.80}", hint="shards lie beside their index")
    return weight_map


def check_float(path: Path, name: str, dtype: str) -> None:
    """Raises `CheckpointError` for a tensor that is stored as anything but plain floating point."""
    if dtype not in FLOATS:
        raise CheckpointError(
            f"{path}: tensor {name} is stored as {dtype}",
            hint=f"convert the checkpoint to one of {', '.join(sorted(FLOATS))} first",
        )
