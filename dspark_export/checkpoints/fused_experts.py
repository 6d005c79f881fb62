"""Experts that a checkpoint holds as stacks, gate and up in one tensor, presented as one tensor a projection."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dspark_export.checkpoints.tensors import Array, Entry, Shape, TensorSource

STACK = re.compile(r"(?P<stem>.+\.experts)\.(?P<which>gate_up|down)_proj(?P<bias>_bias)?")
"""A canonical name, such as `layers.0.mlp.experts.gate_up_proj`."""
PARTS = ("gate", "up")


@dataclass(frozen=True)
class FusedStack:
    """The tensor `name` of a source: gates and ups of all experts, [E, 2I, in], or `turned` [E, in, 2I]; or biases
    [E, 2I].

    `interleaved`: gates and ups in turn, else all gates first.
    """

    name: str
    turned: bool
    interleaved: bool

    @property
    def part_names(self) -> tuple[str, ...]:
        """What its gates and ups are called, each a tensor of its own."""
        return tuple(f"{self.name} ({part})" for part in PARTS)

    def part_shape(self, shape: Shape) -> Shape:
        """[E, I, in] or [E, I] of the whole's shape."""
        count, *rest = _turned_shape(shape) if self.turned else shape
        return count, rest[0] // 2, *rest[1:]

    def split(self, whole: Array) -> list[Array]:
        """Copies of its gates and its ups, [E, I, in] or [E, I]."""
        facing = whole.swapaxes(1, 2) if self.turned else whole
        inner = facing.shape[1] // 2
        if self.interleaved:
            return [np.array(facing[:, start::2], order="C") for start in range(2)]
        return [np.array(facing[:, start : start + inner], order="C") for start in (0, inner)]


class FusedSource(TensorSource):
    """`source` with more tensors: the gates and the ups of each of `stacks`.

    Whoever loads one of the two is about to load the other, which is kept from the same read until then, or until
    another stack is loaded. At most a whole stack and its two parts are in memory: twice its size.
    """

    def __init__(self, source: TensorSource, stacks: Sequence[FusedStack]) -> None:
        self._source = source
        self._stacks = {part: stack for stack in stacks for part in stack.part_names}
        parts = {part: stack.part_shape(source.shapes[stack.name]) for part, stack in self._stacks.items()}
        self._shapes = {**source.shapes, **parts}
        self._kept: dict[str, Array] = {}

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return self._shapes

    @property
    def quantization(self) -> str:
        return self._source.quantization

    def load(self, name: str) -> Array:
        stack = self._stacks.get(name)
        if stack is None:
            return self._source.load(name)
        kept = self._kept.pop(name, None)
        if kept is not None:
            return kept
        self._kept = {}  # before the next stack is in memory
        parts = dict(zip(stack.part_names, stack.split(self._source.load(stack.name)), strict=True))
        asked = parts.pop(name)
        self._kept = parts
        return asked

    def stored(self, name: str) -> str:
        return self._source.stored(self._stacks[name].name if name in self._stacks else name)


@dataclass(frozen=True, kw_only=True)
class FusedExperts:
    """How a family's checkpoints hold a layer's experts, in `experts.gate_up_proj` and `experts.down_proj`.

    `turned`: matrices lie as [E, in, out], not as ours, [E, out, in]. `interleaved`: outputs of gate and up in turn,
    else all gates first. `biased`: there are `…_proj_bias` [E, out] as well.
    """

    turned: bool = False
    interleaved: bool = False
    biased: bool = False

    def split(self, entries: Mapping[str, Entry], source: TensorSource) -> tuple[dict[str, Entry], FusedSource]:
        """`entries` with a tensor for each projection, and where they come from.

        What is no such stack, or has no halves, keeps its name, by which the list of tensors refuses it.
        """
        named: dict[str, Entry] = {}
        stacks: list[FusedStack] = []
        for name, entry in entries.items():
            shape, match = source.shapes[entry.source_name], STACK.fullmatch(name)
            if match is None or not self._holds(match, shape):
                named[name] = entry
                continue
            turned, ending = self.turned and not match["bias"], "bias" if match["bias"] else "weight"
            if match["which"] == "down":
                named[f"{match['stem']}.down_proj.{ending}"] = _turned(entry, shape) if turned else entry
                continue
            stack = FusedStack(entry.source_name, turned, self.interleaved)
            stacks.append(stack)
            for part, part_name in zip(PARTS, stack.part_names, strict=True):
                named[f"{match['stem']}.{part}_proj.{ending}"] = Entry(part_name)
        return named, FusedSource(source, stacks)

    def _holds(self, match: re.Match[str], shape: Shape) -> bool:
        """Whether a tensor of this name and shape is one of the stacks."""
        bias, even = match["bias"], match["which"] == "gate_up"
        if len(shape) != (2 if bias else 3) or (bias and not self.biased):
            return False
        outputs = shape[2 if self.turned and not bias else 1]
        return not (even and outputs % 2)


def _turned(entry: Entry, shape: Shape) -> Entry:
    return replace(entry, transform=_turn, shape=_turned_shape(shape))


def _turn(array: Array) -> Array:
    return np.ascontiguousarray(array.swapaxes(1, 2))


def _turned_shape(shape: Shape) -> Shape:
    count, first, second = shape
    return count, second, first
