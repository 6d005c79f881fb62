"""Where weights come from: a source knows names and shapes at once and loads a tensor only when asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from dspark_engines.errors import CheckpointError

Array = npt.NDArray[np.float32]
Shape = tuple[int, ...]
STORED: dict[str, Any] = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}


class TensorSource(ABC):
    """Named tensors of one checkpoint. Opening reads the headers only."""

    @property
    @abstractmethod
    def shapes(self) -> Mapping[str, Shape]:
        """Every tensor's shape by its name in the file; no data is read."""

    @abstractmethod
    def load(self, name: str) -> Array:
        """The tensor as float32, dequantised if need be. A fresh array on every call."""

    @property
    def quantization(self) -> str:
        """How weights are stored where not as plain floating point; nothing where they are."""
        return ""

    def stored(self, name: str) -> str:
        """What its numbers are stored as: "F32", "F16", "BF16"; for everything else "F32", which holds them."""
        del name
        return "F32"


@dataclass(frozen=True)
class Entry:
    """One canonical tensor: its name in the source, what is done with it after loading, its shape if that alters it."""

    source_name: str
    transform: Callable[[Array], Array] | None = None
    shape: Shape | None = None


@dataclass(frozen=True)
class Weights(Mapping[str, Array]):
    """A checkpoint's tensors under canonical names (float32, [out, in]); loading happens on access."""

    path: Path
    source: TensorSource
    entries: Mapping[str, Entry] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Array:
        """Raises `CheckpointError` for a tensor that is not all finite numbers."""
        entry = self.entries[name]
        array = self.source.load(entry.source_name)
        _check_finite(self.path, entry.source_name, array)
        return array if entry.transform is None else entry.transform(array)

    def as_stored(self, name: str) -> npt.NDArray[Any]:
        """The same numbers in the type that the checkpoint has them in, where that is float16 or bfloat16."""
        return self[name].astype(STORED[self.source.stored(self.entries[name].source_name)])

    def __contains__(self, name: object) -> bool:
        """Nothing is loaded, which a mapping's own test would do."""
        return name in self.entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def shapes(self) -> dict[str, Shape]:
        """Canonical name to shape, without loading."""
        return {name: entry.shape or self.source.shapes[entry.source_name] for name, entry in self.entries.items()}


PREFIXES = ("language_model.model.", "model.language_model.", "language_model.", "model.", "_orig_mod.", "")
"""Of the decoder's tensors: alone, or as the text model of something larger, in older and newer files; the last is
torch.compile's, of modules that were saved compiled."""


def plain_entries(path: Path, names: Iterable[str]) -> dict[str, Entry]:
    """Entries of a checkpoint with Hugging Face's names, the prefix of its decoder taken off.

    Raises `CheckpointError` where a tensor is there with and without it.
    """
    entries: dict[str, Entry] = {}
    for name in names:
        if name.endswith("rotary_emb.inv_freq"):  # a buffer that old checkpoints carry; derived from the config
            continue
        canonical = next(name.removeprefix(prefix) for prefix in PREFIXES if name.startswith(prefix))
        if canonical in entries:
            raise CheckpointError(
                f"{path}: holds both tensor {canonical} and model.{canonical}",
                hint="remove the one that is out of date",
            )
        entries[canonical] = Entry(name)
    return entries


def _check_finite(path: Path, name: str, array: Array) -> None:
    """Extremes first: they need no memory, and NaN is one."""
    if not array.size or (np.isfinite(array.min()) and np.isfinite(array.max())):
        return
    wrong = np.argwhere(~np.isfinite(array))
    place = ", ".join(map(str, wrong[0]))
    raise CheckpointError(
        f"{path}: tensor {name} holds {array[tuple(wrong[0])]} at [{place}], {len(wrong)} such numbers in all",
        hint="the checkpoint is damaged, or its training diverged: every output would be nonsense",
    )


def check_depth(path: Path, found: Mapping[str, Shape], layers: int) -> None:
    """Refuse a number of layers that these tensors cannot make up, before their names are listed."""
    if layers > len(found):
        raise CheckpointError(
            f"{path}: {layers} layers announced, and {len(found)} tensors in all",
            hint="config and weights do not belong together",
        )


def check_tensors(
    path: Path,
    found: Mapping[str, Shape],
    expected: Mapping[str, Shape],
    optional: Mapping[str, Shape] | None = None,
) -> None:
    """Refuse, by name, any tensor that is missing, unknown, or of another shape than the config says."""
    allowed = {**(optional or {}), **expected}
    missing = sorted(expected.keys() - found.keys())
    unknown = sorted(found.keys() - allowed.keys())
    wrong = [name for name in sorted(found.keys() & allowed.keys()) if found[name] != allowed[name]]
    if missing:
        raise CheckpointError(
            f"{path}: missing tensor {_named(missing)}",
            hint="the checkpoint does not hold what its config announces; fetch or convert it again",
        )
    if unknown:
        raise CheckpointError(
            f"{path}: unknown tensor {_named(unknown)}",
            hint="dropping a tensor silently would change the model; check the architecture in the config",
        )
    if wrong:
        name = wrong[0]
        raise CheckpointError(
            f"{path}: tensor {name} has shape {list(found[name])}, the config asks for {list(allowed[name])}",
            hint="config and weights do not belong together",
        )


def _named(names: list[str]) -> str:
    rest = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return f"'{names[0]}'{rest}"
