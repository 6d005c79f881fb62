"""Weights of a quantised checkpoint under the names they have unquantised, turned back one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.quantised.scheme import Scheme
from dspark_export.checkpoints.safetensors_source import SafetensorsSource, check_float
from dspark_export.checkpoints.tensors import Array, Shape, TensorSource


class QuantisedSource(TensorSource):
    """A safetensors source some of whose layers are stored as `scheme` says; the others are as they are.

    Raises `CheckpointError` for a layer of which a part is missing.
    """

    def __init__(self, directory: Path, source: SafetensorsSource, scheme: Scheme) -> None:
        self._directory, self._source, self._scheme = directory, source, scheme
        marker = f".{scheme.marker}"
        self._stems = {name.removesuffix(marker) for name in source.shapes if name.endswith(marker)}
        if not self._stems:
            raise CheckpointError(
                f"{directory}: its config says {scheme.name}, and no tensor is called …{marker}",
                hint="config and weights do not belong together",
            )
        used = {f"{stem}.{part}" for stem in self._stems for part in (*scheme.parts, *scheme.optional, *scheme.ignored)}
        kept = {name: shape for name, shape in source.shapes.items() if name not in used}
        for name in kept:
            check_float(directory, name, source.stored(name))
        self._shapes = kept | {f"{stem}.weight": self._shape(stem) for stem in sorted(self._stems)}

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    @property
    def quantization(self) -> str:
        return self._scheme.name

    def load(self, name: str) -> Array:
        stem = name.removesuffix(".weight")
        if stem not in self._stems or not name.endswith(".weight"):
            return self._source.load(name)
        try:
            return self._scheme.load(partial(self._raw, stem), self._found(stem))
        except ValueError as error:
            raise CheckpointError(
                f"{self._directory}: layer {stem}, {self._scheme.name}: {error}", hint="fetch the checkpoint again"
            ) from None

    def stored(self, name: str) -> str:
        return "F32" if name not in self._source.shapes else self._source.stored(name)

    def same(self, one: str, other: str) -> bool:
        """As `SafetensorsSource.same`, of tensors that are not quantised."""
        return self._source.same(one, other)

    def _raw(self, stem: str, part: str) -> Array:
        return self._source.load_raw(f"{stem}.{part}")

    def _found(self, stem: str) -> frozenset[str]:
        parts = (*self._scheme.parts, *self._scheme.optional)
        return frozenset(part for part in parts if f"{stem}.{part}" in self._source.shapes)

    def _shape(self, stem: str) -> Shape:
        missing = [part for part in self._scheme.parts if f"{stem}.{part}" not in self._source.shapes]
        if missing:
            raise CheckpointError(
                f"{self._directory}: layer {stem} is stored as {self._scheme.name}, and has no {missing[0]}",
                hint="the checkpoint is not complete: fetch it again",
            )
        shapes = {part: self._source.shapes[f"{stem}.{part}"] for part in self._found(stem)}
        try:
            return self._scheme.shape(shapes)
        except ValueError:  # not as many extents as the scheme's parts have
            raise CheckpointError(
                f"{self._directory}: layer {stem} is stored as {self._scheme.name}, with parts of shapes {shapes}",
                hint="config and weights do not belong together",
            ) from None
