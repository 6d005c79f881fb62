"""Experts that a checkpoint holds one by one, presented as one tensor a projection, expert first."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.tensors import Array, Entry, Shape, TensorSource

EXPERT = re.compile(r"(.+\.mlp\.experts)\.(\d+)\.(\w+_proj\.weight)")
"""`layers.0.mlp.experts.7.gate_proj.weight`."""


class StackedSource(TensorSource):
    """`source` with more tensors: each of `stacks` is made of those that it names, one behind the other."""

    def __init__(self, source: TensorSource, stacks: Mapping[str, list[str]]) -> None:
        self._source, self._stacks = source, stacks
        shapes = {name: (len(parts), *source.shapes[parts[0]]) for name, parts in stacks.items()}
        self._shapes = {**source.shapes, **shapes}

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    @property
    def quantization(self) -> str:
        return self._source.quantization

    def load(self, name: str) -> Array:
        """One expert at a time, into the stack's own memory."""
        if name not in self._stacks:
            return self._source.load(name)
        whole = np.empty(self._shapes[name], np.float32)
        for place, part in zip(whole, self._stacks[name], strict=True):
            place[...] = self._source.load(part)
        return whole

    def stored(self, name: str) -> str:
        return "F32" if name in self._stacks else self._source.stored(name)


def stack_experts(
    path: Path, entries: Mapping[str, Entry], source: TensorSource
) -> tuple[dict[str, Entry], StackedSource]:
    """`entries` with the experts' tensors stacked. Raises `CheckpointError` where one is missing or unlike."""
    found: dict[str, dict[int, str]] = {}
    named: dict[str, Entry] = {}
    for name, entry in entries.items():
        match = EXPERT.fullmatch(name)
        if match:
            found.setdefault(f"{match[1]}.{match[3]}", {})[int(match[2])] = entry.source_name
        else:
            named[name] = entry
    for name, parts in found.items():
        _check(path, name, parts, source)
        named[name] = Entry(name)
    return named, StackedSource(source, {name: [parts[e] for e in range(len(parts))] for name, parts in found.items()})


def _check(path: Path, name: str, parts: Mapping[int, str], source: TensorSource) -> None:
    before, _, after = name.partition(".experts.")
    missing = next((number for number in range(len(parts)) if number not in parts), None)
    if missing is not None:
        raise CheckpointError(
            f"{path}: missing tensor '{before}.experts.{missing}.{after}'",
            hint="the checkpoint does not hold what its config announces; fetch or convert it again",
        )
    shapes = {source.shapes[part] for part in parts.values()}
    if len(shapes) > 1:
        raise CheckpointError(
            f"{path}: tensors {before}.experts.….{after} have {len(shapes)} different shapes",
            hint="experts of a layer are alike; fetch the checkpoint again",
        )
