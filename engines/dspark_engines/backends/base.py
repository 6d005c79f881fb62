"""What compiles exported graphs and opens the engines: a backend, and its options."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from dspark_engines.backends.engine import Engines
from dspark_engines.bundle import BackendInfo, Bundle, Limits, Precision, Role
from dspark_engines.errors import BackendError

EnginePrecision = Literal["fp32", "fp16", "bf16"]
"""What linear layers, attention and caches of an engine compute in."""


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
        """Compile the graphs in `onnx` (target, drafter, accept) into the empty folder `output`.

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
