"""The seam between a way of storing weights in fewer bits and the source that gives them as float32."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dspark_export.checkpoints.tensors import Array, Shape

Raw = Callable[[str], npt.NDArray[Any]]
"""A part of a layer, by its suffix, as it lies in the file."""


class Scheme(ABC):
    """How one layer's weight is stored: several tensors called STEM.suffix, one of which, `marker`, tells that it is.

    `joint` stands between stem and suffix, `result` behind the stem in the weight's unquantised name. `optional` parts
    may be missing; `ignored` ones concern activations, which stay as they are here.
    """

    name: str
    """For the manifest."""
    marker: str
    parts: tuple[str, ...]
    optional: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ("input_scale", "output_scale", "k_scale", "v_scale")
    joint: str = "."
    result: str = ".weight"

    @property
    def endings(self) -> tuple[str, ...]:
        """How the names of all its tensors end."""
        return tuple(f"{self.joint}{part}" for part in (*self.parts, *self.optional, *self.ignored))

    @abstractmethod
    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        """Shape of the weight, [out, in], from its parts' shapes by suffix. Raises `ValueError` for other extents."""

    @abstractmethod
    def load(self, raw: Raw, found: frozenset[str]) -> Array:
        """The weight; `found` are the suffixes that are there. Raises `ValueError` where parts do not fit together."""


def unpack(words: npt.NDArray[Any], bits: int, axis: int) -> npt.NDArray[np.int32]:
    """Unsigned numbers of `bits` bits out of 32-bit words, the lowest bits first, along `axis`."""
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    spread = (np.moveaxis(words, axis, -1).astype(np.int64).astype(np.uint32)[..., None] >> shifts) & ((1 << bits) - 1)
    return np.moveaxis(spread.reshape(*spread.shape[:-2], -1), -1, axis).astype(np.int32)


def groups(scale: Array, width: int) -> Array:
    """scale [n, g], a number for each of g equal groups of `width` columns, laid out over them: [n, width]."""
    if width % scale.shape[1]:
        raise ValueError(f"{width} columns are not {scale.shape[1]} groups")
    return np.repeat(scale, width // scale.shape[1], axis=1)
