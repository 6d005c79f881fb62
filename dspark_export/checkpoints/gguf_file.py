"""A GGUF file, or the parts of a split one: metadata, and tensors that are dequantised when asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, dequantize

from dspark_engines.arrays import Ints
from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.recognition import check_target_path
from dspark_export.checkpoints.tensors import STORED, Array, Shape, TensorSource

T = TypeVar("T")

CONVERT_AGAIN = "convert the model to GGUF again with a current converter"
PART = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
"""How llama-gguf-split names the parts of a file."""
BASE_MODEL = "general.base_model"
INTEGERS = {"I32", "I64"}
SWAPPED = "S"
"""gguf's `byte_order` of a file whose numbers are the other way round than this machine's."""


class UnknownTypeError(Exception):
    """A tensor of a type that the installed gguf library has never heard of."""


class CheckedReader(GGUFReader):
    """The library's reader, made to stop at the end of the file and to be fast.

    The library reads past the end as nothing, so a damaged array length keeps it busy for ever; and it slices a
    memory map a few hundred thousand times, which a plain view of the same memory does in a fraction of the time.
    """

    def _get(self, offset: int, dtype: npt.DTypeLike, count: int = 1, override_order: Any = None) -> npt.NDArray[Any]:
        kind = np.dtype(dtype).newbyteorder(override_order or self.byte_order)
        end = int(offset) + kind.itemsize * int(count)
        if end > self.data.size:
            raise ValueError(f"it ends at byte {self.data.size}, before the {end} that it announces")
        return self.data.view(np.ndarray)[int(offset) : end].view(kind)

    def _build_tensors(self, start_offs: int, fields: list[Any]) -> None:
        """The library names the number of an unknown type and not whose it is."""
        known = {int(kind) for kind in GGMLQuantizationType}
        for field in fields:
            _, name, _, _, kind, _ = field.parts
            if int(kind[0]) not in known:
                raise UnknownTypeError(f"tensor {bytes(name).decode('utf-8', 'replace')} has type {int(kind[0])}")
        super()._build_tensors(start_offs, fields)


class GgufFile(TensorSource):
    """The metadata of a GGUF file and its tensors, those of its other parts included.

    Tensors called `integers` may be int32 or int64. As llama.cpp, a split file is named by its first part. Raises
    `CheckpointError` for a part that is missing, for a big-endian file and for tensors of a type that nobody here can
    dequantise.
    """

    def __init__(self, path: Path, *, integers: frozenset[str] = frozenset()) -> None:
        self.path, self._integers = path, integers
        self._reader = _open(path)
        self.paths = self._part_paths()
        self._tensors: dict[str, Any] = {}
        for part in self.paths:
            self._add(part, self._reader if part == path else _open(part))
        expected = self.get("split.tensors.count", len(self._tensors))
        if expected != len(self._tensors):
            raise CheckpointError(
                f"{path}: its parts hold {len(self._tensors)} tensors, split.tensors.count is {expected}",
                hint="fetch all parts again",
            )
        self._shapes = {name: tuple(int(n) for n in reversed(t.shape)) for name, t in self._tensors.items()}

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    def load(self, name: str) -> Array:
        tensor = self._tensors[name]
        with np.errstate(all="ignore"):  # what is not finite is refused by name, wherever it comes from
            array = dequantize(tensor.data, tensor.tensor_type)
            return np.asarray(array, dtype=np.float32).reshape(self._shapes[name])

    @property
    def quantization(self) -> str:
        kinds = {tensor.tensor_type.name for tensor in self._tensors.values()} - {*STORED, *INTEGERS}
        return ", ".join(sorted(kinds))

    def stored(self, name: str) -> str:
        kind: str = self._tensors[name].tensor_type.name
        return kind if kind in STORED else "F32"

    def raw_rows(self, name: str, rows: Ints) -> tuple[npt.NDArray[Any], GGMLQuantizationType]:
        """Lines of a matrix as they lie in the file, and their type."""
        tensor = self._tensors[name]
        return np.ascontiguousarray(tensor.data[rows]), tensor.tensor_type

    def load_integers(self, name: str) -> Ints:
        """One of the `integers`."""
        return np.asarray(self._tensors[name].data, np.int64).ravel()

    def keys_of(self, prefix: str) -> Iterator[tuple[str, GGUFValueType, GGUFValueType | None]]:
        """(key, type, type of an array's items) of the metadata that begins with `prefix`."""
        for key, field in self._reader.fields.items():
            if key.startswith(prefix):
                yield key, field.types[0], field.types[-1] if len(field.types) > 1 else None

    def get(self, key: str, default: Any = None) -> Any:
        """A metadata value, or `default`. Raises `CheckpointError` when it is damaged."""
        field = self._reader.fields.get(key)
        try:
            return default if field is None else field.contents()
        except ValueError as error:  # bytes that are no text
            raise CheckpointError(f"{self.path}: {key}: {error}", hint="fetch the file again") from None

    def require(self, key: str, kind: Callable[[Any], T]) -> T:
        """A metadata value converted by `kind`. Raises `CheckpointError` when it is missing or of another type."""
        value = self.get(key)
        if value is None:
            raise CheckpointError(f"{self.path}: missing key '{key}'", hint=CONVERT_AGAIN)
        try:
            return kind(value)
        except (TypeError, ValueError):
            raise CheckpointError(f"{self.path}: {key} is {value!r:.60}", hint=CONVERT_AGAIN) from None

    def base_models(self) -> tuple[str, ...]:
        """Of which models the file says that it was made, from the model card: each one's address, else its name."""
        names: list[str] = []
        while found := self.get(f"{BASE_MODEL}.{len(names)}.repo_url") or self.get(f"{BASE_MODEL}.{len(names)}.name"):
            names.append(str(found))
        return tuple(names)

    def count(self, key: str, default: int | None = None) -> int:
        """A metadata value that must be positive. Raises `CheckpointError` when it is not."""
        value = default if default is not None and self.get(key) is None else self.require(key, int)
        if value < 1:
            raise CheckpointError(f"{self.path}: {key} is {value}", hint=CONVERT_AGAIN)
        return value

    def positive(self, key: str, default: float) -> float:
        """A number above 0, or `default` where the file has none. Raises `CheckpointError`."""
        value = default if self.get(key) is None else self.require(key, float)
        if not 0 < value < float("inf"):
            raise CheckpointError(f"{self.path}: {key} is {value}", hint=CONVERT_AGAIN)
        return value

    def _part_paths(self) -> list[Path]:
        """All parts in order; the file itself when it is whole."""
        count = self.get("split.count", 0)
        if count < 2:
            return [self.path]
        match = PART.fullmatch(self.path.name)
        number = self.get("split.no", 0)
        if match is None or int(match["count"]) != count:
            raise CheckpointError(
                f"{self.path}: one of {count} parts, and not named as part NNNNN-of-{count:05}",
                hint="name the parts as llama-gguf-split does, or merge them: llama-gguf-split --merge",
            )
        names = [f"{match['stem']}-{part:05}-of-{count:05}.gguf" for part in range(1, count + 1)]
        if number != 0:
            raise CheckpointError(
                f"{self.path}: part {number + 1} of {count} of a split file",
                hint=f"pass the first part, which describes the model: {self.path.with_name(names[0])}",
            )
        return [self.path.with_name(name) for name in names]

    def _add(self, path: Path, reader: GGUFReader) -> None:
        for tensor in reader.tensors:
            if tensor.name in self._tensors:
                raise CheckpointError(f"{path}: holds tensor {tensor.name} a second time", hint="fetch all parts again")
            if tensor.name not in self._integers or tensor.tensor_type.name not in INTEGERS:
                _check_type(path, tensor)
            self._tensors[tensor.name] = tensor


def _open(path: Path) -> GGUFReader:
    if path.exists() or path.is_symlink():
        check_target_path(path)
    try:
        reader = CheckedReader(path)
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: no such file", hint="check the path; a split file needs all its parts"
        ) from None
    except UnknownTypeError as error:
        raise CheckpointError(
            f"{path}: {error}, which the package gguf {_version()} does not know",
            hint="upgrade the package gguf, or take a file in another quantisation",
        ) from None
    except (ValueError, IndexError, KeyError, OSError) as error:
        raise CheckpointError(
            f"{path}: not a complete GGUF file: {str(error).splitlines()[0]:.120}", hint="fetch the file again"
        ) from None
    if reader.byte_order == SWAPPED:
        raise CheckpointError(
            f"{path}: a GGUF file for machines of the other byte order (big-endian, such as s390x)",
            hint="take the usual file, or convert a copy of this one: gguf-convert-endian COPY little",
        )
    return reader


def _check_type(path: Path, tensor: Any) -> None:
    """Raises `CheckpointError` for a type that the library knows and cannot turn into numbers; tries it on a block."""
    kind = tensor.tensor_type
    data = tensor.data
    if kind not in (GGMLQuantizationType.F32, GGMLQuantizationType.F16):
        data = np.zeros((1, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8)
    try:
        with np.errstate(all="ignore"):
            dequantize(data[:1], kind)
    except NotImplementedError:
        raise CheckpointError(
            f"{path}: tensor {tensor.name} is stored as {kind.name}, which the package gguf {_version()} cannot "
            "dequantise",
            hint="take a file in another quantisation, such as Q8_0 or F16",
        ) from None


def _version() -> str:
    return version("gguf")
