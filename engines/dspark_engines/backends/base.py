"""What compiles exported graphs and opens the engines: a backend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

from dspark_engines.backends.engine import Engines, VerifyEngine
from dspark_engines.backends.exported import ExportedGraphs
from dspark_engines.backends.options import CompileOptions, EngineOptions, EnginePrecision
from dspark_engines.bundle import NGRAM, BackendInfo, Bundle, Limits, Precision, Role
from dspark_engines.errors import BackendError


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


class Backend(ABC):
    """Compiles exported graphs and runs what it compiled."""

    name: str
    kind: str = ""
    """What it is, for messages: "runs on the CPU"."""
    supports: frozenset[str] = frozenset()
    """Fields of `CompileOptions`, beside the precision, that it follows. Others are refused where they are given."""
    several_drafters: bool = False
    """Whether a bundle can hold engines of several drafters, one of which is opened."""
    chains: bool = False
    """Whether it runs drafters that draft one token after the other, whose graphs read next_ids."""
    own_engines: bool = False
    """Whether each cohort of a runtime should have engines of its own, opened with a share of the cores; they then
    take each other's slots. Without, cohorts take turns on one pair."""

    @property
    @abstractmethod
    def version(self) -> str:
        """Version of the library that compiles and runs."""

    @abstractmethod
    def compile(self, exported: ExportedGraphs, output: Path, options: CompileOptions) -> list[CompiledEngine]:
        """Compile what was exported into the empty folder `output`.

        Raises `BackendError` when the backend cannot run these graphs.
        """

    def compile_drafter(
        self, exported: ExportedGraphs, output: Path, options: CompileOptions, name: str
    ) -> list[CompiledEngine]:
        """Compile the graphs of a further drafter, called `name`, into the folder that `compile` has filled.

        Asked of backends with `several_drafters` only.
        """
        raise NotImplementedError

    def refuse_several(self, names: Sequence[str]) -> None:
        """Raises `BackendError` for more drafters than its engines can be made for."""
        if len(names) > 1 and not self.several_drafters:
            raise BackendError(
                f"backend '{self.name}' takes one drafter a bundle, and '{names[1]}' is a second",
                hint="build a bundle for each; --backend onnxruntime takes several",
            )

    def refuse_chains(self, methods: Sequence[str]) -> None:
        """Raises `BackendError` for drafters that draft one token after the other, of these methods, if it runs none.

        Asked before any heavy work.
        """
        if methods and not self.chains:
            raise BackendError(
                f"backend '{self.name}' drafts blocks only, and method '{methods[0]}' drafts one token after the other",
                hint="--backend onnxruntime runs it",
            )

    def refuse_engineless(self, bundle: Bundle) -> None:
        """For backends whose engines are sized for one drafter: raises `BackendError` for drafts of another kind."""
        if bundle.manifest.drafter.method == NGRAM:
            raise BackendError(
                f"backend '{self.name}' has no prompt lookup", hint="--backend onnxruntime has; or leave --drafter out"
            )

    @abstractmethod
    def check_options(self, options: CompileOptions, limits: Limits, block_size: int, exported: Precision) -> None:
        """Raises `BackendError` for options, or graphs `exported` in a precision, that this backend cannot follow.

        Asked before any heavy work.
        """

    def refuse_unsupported(self, options: CompileOptions) -> None:
        """Raises `BackendError` for an option that was given and that this backend does not follow."""
        for knob in fields(options):
            known = knob.name in self.supports or knob.name == "precision" or "flag" not in knob.metadata
            if not known and getattr(options, knob.name) != knob.default:
                raise BackendError(
                    f"backend '{self.name}' {self.kind} and has no {knob.name.replace('_', ' ')}",
                    hint=f"leave {knob.metadata['flag'].partition('/')[0]} out, or choose another --backend",
                )

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
    def open(
        self, bundle: Bundle, options: EngineOptions, *, verify: VerifyEngine | None = None
    ) -> AbstractContextManager[Engines]:
        """Load the engines of `bundle` for the duration of a `with` block.

        `verify`: the target's engine where it is open already, for another drafter of the same bundle.
        Raises `BackendError` when the bundle has none of this backend.
        """

    def refuse_shared(self, verify: VerifyEngine | None) -> None:
        """For backends that open engines together only: raises `BackendError` where one is open already."""
        if verify is not None:
            raise BackendError(
                f"backend '{self.name}' opens one drafter at a time", hint="compare on --backend onnxruntime"
            )
