"""The seam between the runtime and whatever executes the graphs.

Arrays are packed: rows of a step lie one after the other, told apart by their lengths. A slot is one
request's caches; it belongs to the engine that made it, and rolling back is passing a smaller `used`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dspark_engines.bundle import Bundle, Limits, Role

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Slot = Any
"""Opaque to everyone but the engine that made it."""


class VerifyOutput(NamedTuple):
    """logits [K, V] of the asked rows, features [N, L*H]. Valid until the engine's next step.

    `seconds` is the time spent inside the backend.
    """

    logits: Floats
    features: Floats
    seconds: float = 0.0


class DraftOutput(NamedTuple):
    """draft_ids [R, g], confidence_logits [R, g], draft_logits [R, g, V]. Valid until the next step.

    `seconds` is the time spent inside the backend.
    """

    draft_ids: Ints
    confidence_logits: Floats
    draft_logits: Floats
    seconds: float = 0.0


class Engine(ABC):
    """What both engines have in common. Not safe for use by several threads at once."""

    @property
    @abstractmethod
    def max_rows(self) -> int:
        """Most rows of one step."""

    @abstractmethod
    def new_slot(self) -> Slot:
        """Empty caches for one request, of the bundle's full context length."""

    def preload(self, rows: int) -> None:
        """Load now whatever steps of up to `rows` rows need; engines may otherwise load at the first one."""
        del rows


class VerifyEngine(Engine):
    """The target with caches: verification, prefill and plain decoding."""

    @abstractmethod
    def step(
        self,
        slots: Sequence[Slot],
        token_ids: Ints,
        row_lengths: Ints,
        used: Ints,
        logit_rows: Ints,
    ) -> VerifyOutput:
        """Run token_ids [N] of R rows; row r continues slots[r] at position used[r] (at least one token a row).

        Raises `BackendError` when R is more than the engine was built for.
        """


class DraftEngine(Engine):
    """The drafter with caches."""

    @abstractmethod
    def step(
        self,
        slots: Sequence[Slot],
        features: Floats,
        feature_lengths: Ints,
        used: Ints,
        anchor_ids: Ints,
        temperature: Floats,
        uniforms: Floats,
    ) -> DraftOutput:
        """Take in features [M, L*H] of R rows and draft a block behind anchor_ids [R].

        Row r's anchor stands at position used[r] + feature_lengths[r]; temperature [R], uniforms [R, g]
        in [0, 1). Raises `BackendError` when R is more than the engine was built for.
        """


class CompiledEngine(NamedTuple):
    """One engine file: its role, rows a step, its name in the output folder, the graph it came from."""

    role: Role
    slots: int
    file: str
    source: str


@dataclass(frozen=True)
class EngineOptions:
    """How engines use the machine; `threads` 0 means all cores."""

    threads: int = 0


@dataclass(frozen=True)
class Engines:
    """Both engines of a bundle, opened."""

    verify: VerifyEngine
    draft: DraftEngine


class Backend(ABC):
    """Compiles exported graphs and runs what it compiled."""

    name: str

    @property
    @abstractmethod
    def version(self) -> str:
        """Version of the library that compiles and runs."""

    @abstractmethod
    def compile(self, onnx: Path, output: Path, limits: Limits) -> list[CompiledEngine]:
        """Compile `onnx`/target.onnx and `onnx`/drafter.onnx into the empty folder `output`.

        Raises `BackendError` when the backend cannot run these graphs.
        """

    @abstractmethod
    def open(self, bundle: Bundle, options: EngineOptions) -> AbstractContextManager[Engines]:
        """Load the engines of `bundle` for the duration of a `with` block.

        Raises `BackendError` when the bundle has none of this backend.
        """
