"""The seam between the runtime and whatever executes the graphs.

Arrays are packed: rows of a step lie one after the other, told apart by their lengths. A slot is one
request's caches; it belongs to the engine that made it, and rolling back is passing a smaller `used`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from dspark_engines.bundle import BackendInfo, Bundle, Limits, Precision, Role
from dspark_engines.errors import BackendError

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
EnginePrecision = Literal["fp32", "fp16", "bf16"]
"""What linear layers, attention and caches of an engine compute in."""
Slot = Any
"""Opaque to everyone but the engine that made it."""


class HeldLogits(ABC):
    """Draft logits [R, g, V] float32 that stay where they were computed, until their slots draft again.

    As an array they are a copy on the host.
    """

    @abstractmethod
    def __len__(self) -> int:
        """R."""

    @abstractmethod
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """NumPy's protocol: a copy."""


DraftLogits = Floats | HeldLogits


class Trial(NamedTuple):
    """What decides over the T rows of a step that ask for logits, in their order: inputs of `dspark::Verify`.

    draft_ids [T, g], verify_lengths [T], temperature [T]; draft_logits [D, g, V] of the rows with drafts, which come
    first ([D, g, 0] where these are greedy); uniforms [T, n, 2], n the longest verify length and one. A row asks for
    the logits of its last verify_length + 1 tokens.
    """

    draft_ids: Ints
    draft_logits: DraftLogits
    verify_lengths: Ints
    temperature: Floats
    uniforms: Floats


class Verified(NamedTuple):
    """accepted [T], next_ids [T]: the outputs of `dspark::Verify`."""

    accepted: Ints
    next_ids: Ints


class VerifyOutput(NamedTuple):
    """logits [K, V] of the asked rows, features [N, L*H]. Valid until the engine's next step.

    `seconds` is the time spent inside the backend. Of an engine that decided, `verified` is what came of the trial,
    and logits is [0, V].
    """

    logits: Floats
    features: Floats
    seconds: float = 0.0
    verified: Verified | None = None


class DraftOutput(NamedTuple):
    """draft_ids [R, g], confidence_logits [R, g], draft_logits [R, g, V]. Valid until the next step.

    Where all rows are greedy an engine may keep draft_logits to itself, [R, g, 0]: nobody needs them.
    `seconds` is the time spent inside the backend.
    """

    draft_ids: Ints
    confidence_logits: Floats
    draft_logits: DraftLogits
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

    def decides(self, sampling: bool) -> bool:
        """Whether there is a `step_and_decide`, for rows with a temperature too if `sampling`."""
        del sampling
        return False

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

    def step_and_decide(
        self, slots: Sequence[Slot], token_ids: Ints, row_lengths: Ints, used: Ints, logit_rows: Ints, trial: Trial
    ) -> VerifyOutput:
        """The same step, and what comes of `trial`; the logits stay where they are. Only for engines that decide."""
        raise NotImplementedError


class DraftEngine(Engine):
    """The drafter with caches."""

    @property
    def samples(self) -> bool:
        """Whether it drafts at temperatures other than 0."""
        return True

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
    """One engine file: its role, rows a step, its name in the output folder, the graph it came from.

    `weights` is the folder that its weights are read from, "" when the file holds them. The rest is None where the
    engine is not built for one GPU; `plugins` are the custom ops that it runs as plugins, and with `greedy_drafts` it
    drafts at temperature 0 only.
    """

    role: Role
    slots: int
    file: str
    source: str
    weights: str = "onnx"
    precision: EnginePrecision | None = None
    compute_capability: str | None = None
    token_buckets: tuple[int, ...] = ()
    plugins: tuple[str, ...] = ()
    greedy_drafts: bool = False


def _silent(done: int, total: int) -> None:
    del done, total


@dataclass(frozen=True)
class CompileOptions:
    """How engines are compiled; None and 0 leave it to the backend. `progress(done, total)` counts its steps.

    `compute_capability` is the GPU's that engines are for, "8.9"; `workspace_mib` limits the builder's scratch memory
    on the device; `timing_cache` is read if it is there, and written; `token_buckets` are the sizes of steps, in
    tokens of all rows together, that engines are made for; `plugins` says whether custom ops become plugins with
    kernels of ours; with `greedy_drafts` the drafter's engine leaves out what only sampled requests need.
    """

    precision: EnginePrecision | None = None
    compute_capability: str | None = None
    workspace_mib: int = 0
    timing_cache: Path | None = None
    token_buckets: tuple[int, ...] = ()
    plugins: bool | None = None
    greedy_drafts: bool = False
    progress: Callable[[int, int], None] = _silent


@dataclass(frozen=True)
class EngineOptions:
    """How engines use the machine; `threads` 0 means all cores, `spinning` that idle ones wait actively."""

    threads: int = 0
    spinning: bool = False


@dataclass(frozen=True)
class Engines:
    """Both engines of a bundle, opened."""

    verify: VerifyEngine
    draft: DraftEngine


class Backend(ABC):
    """Compiles exported graphs and runs what it compiled."""

    name: str
    own_engines: bool = False
    """Whether each cohort of a runtime should have engines of its own, opened with a share of the cores; they then
    take each other's slots. Without, cohorts take turns on one pair."""

    @property
    @abstractmethod
    def version(self) -> str:
        """Version of the library that compiles and runs."""

    @abstractmethod
    def compile(self, onnx: Path, output: Path, limits: Limits, options: CompileOptions) -> list[CompiledEngine]:
        """Compile the graphs in `onnx` (target, drafter, verification) into the empty folder `output`.

        Raises `BackendError` when the backend cannot run these graphs.
        """

    @abstractmethod
    def check_options(self, options: CompileOptions, limits: Limits, block_size: int, exported: Precision) -> None:
        """Raises `BackendError` for options, or graphs `exported` in a precision, that this backend cannot follow.

        Asked before any heavy work.
        """

    def require_float32(self, exported: Precision) -> None:
        """For backends that lower precision by themselves: raises `BackendError` for graphs `exported` in less."""
        if exported != "fp32":
            raise BackendError(
                f"backend '{self.name}' cannot compile graphs exported in {exported}",
                hint="export them in fp32: leave --precision out, and choose --engine-precision",
            )

    def disk_bytes(self, weight_bytes: Mapping[Role, int], options: CompileOptions) -> int:
        """Room that `compile` takes on the disk at its peak, roughly, for graphs with so many bytes of float32 weights.

        None to speak of where engines read the weights of the exported graphs.
        """
        del weight_bytes, options
        return 0

    def find_engines(self, bundle: Bundle) -> BackendInfo:
        """What `bundle` holds of this backend. Raises `BackendError` when that is nothing."""
        info = next((info for info in bundle.manifest.backends if info.name == self.name), None)
        if info is None:
            raise BackendError(
                f"{bundle.path}: no engines of backend '{self.name}'",
                hint=f"compile them with: dspark-export compile {bundle.path} --backend {self.name}",
            )
        return info

    @abstractmethod
    def open(self, bundle: Bundle, options: EngineOptions) -> AbstractContextManager[Engines]:
        """Load the engines of `bundle` for the duration of a `with` block.

        Raises `BackendError` when the bundle has none of this backend.
        """
