"""Weights of a quantised checkpoint under the names they have unquantised, turned back one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.quantised.scheme import Scheme
from dspark_export.checkpoints.safetensors_source import SafetensorsSource, check_float
from dspark_export.checkpoints.tensors import Array, Shape, TensorSource


class QuantisedSource(TensorSource):
    """A safetensors source some of whose layers are stored as `scheme` says; the others are as they are.

    Raises `CheckpointError` for a layer of which a part is missing, and for one that is there unquantised as well.
    """

    def __init__(self, directory: Path, source: SafetensorsSource, scheme: Scheme) -> None:
        self._directory, self._source, self._scheme = directory, source, scheme
        marker = f"{scheme.joint}{scheme.marker}"
        stems = sorted(name.removesuffix(marker) for name in source.shapes if name.endswith(marker))
        if not stems:
            raise CheckpointError(
                f"{directory}: its config says {scheme.name}, and no tensor is called …{marker}",
                hint="config and weights do not belong together",
            )
        self._stems = {f"{stem}{scheme.result}": stem for stem in stems}
        used = {f"{stem}{ending}" for stem in stems for ending in scheme.endings}
        kept = {name: shape for name, shape in source.shapes.items() if name not in used}
        for name in kept:
            self._check_once(name)
            check_float(directory, name, source.stored(name))
        self._shapes = kept | {name: self._shape(stem) for name, stem in self._stems.items()}

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    @property
    def quantization(self) -> str:
        return self._scheme.name

    def load(self, name: str) -> Array:
        stem = self._stems.get(name)
        if stem is None:
            return self._source.load(name)
        try:
            return self._scheme.load(partial(self._raw, stem), self._found(stem))
        except ValueError as error:
            raise CheckpointError(
                f"{self._directory}: layer {stem}, {self._scheme.name}: {error}", hint="fetch the checkpoint again"
            ) from None

    def stored(self, name: str) -> str:
        return "F32" if name in self._stems else self._source.stored(name)

    def same(self, one: str, other: str) -> bool:
        """As `SafetensorsSource.same`; quantised ones are loaded for it."""
        if one in self._stems or other in self._stems:
            return np.array_equal(self.load(one), self.load(other))
        return self._source.same(one, other)

    def _check_once(self, name: str) -> None:
        if name in self._stems:
            raise CheckpointError(
                f"{self._directory}: holds tensor {name}, and the same as {self._scheme.name}",
                hint="remove the one that is out of date",
            )

    def _raw(self, stem: str, part: str) -> Array:
        return self._source.load_raw(self._name(stem, part))

    def _found(self, stem: str) -> frozenset[str]:
        parts = (*self._scheme.parts, *self._scheme.optional)
        return frozenset(part for part in parts if self._name(stem, part) in self._source.shapes)

    def _name(self, stem: str, part: str) -> str:
        return f"{stem}{self._scheme.joint}{part}"

    def _shape(self, stem: str) -> Shape:
        missing = [part for part in self._scheme.parts if self._name(stem, part) not in self._source.shapes]
        if missing:
            raise CheckpointError(
                f"{self._directory}: layer {stem} is stored as {self._scheme.name}, and has no {missing[0]}",
                hint="the checkpoint is not complete: fetch it again",
            )
        shapes = {part: self._source.shapes[self._name(stem, part)] for part in self._found(stem)}
        try:
            return self._scheme.shape(shapes)
        except ValueError:  # not as many extents as the scheme's parts have
            raise CheckpointError(
                f"{self._directory}: layer {stem} is stored as {self._scheme.name}, with parts of shapes {shapes}",
                hint="config and weights do not belong together",
            ) from None
