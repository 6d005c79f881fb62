"""The ONNX Runtime backend (CPU provider)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnxruntime

from dspark_engines.backends.base import Backend, CompiledEngine, EngineOptions, Engines
from dspark_engines.backends.onnxruntime.engines import OrtDraftEngine, OrtVerifyEngine
from dspark_engines.backends.onnxruntime.session import open_session
from dspark_engines.bundle import Bundle, Limits, Role
from dspark_engines.errors import BackendError

ROLES: tuple[tuple[Role, str, str], ...] = (
    ("verify", "target.onnx", "row_lengths"),
    ("draft", "drafter.onnx", "feature_lengths"),
)


class OnnxRuntimeBackend(Backend):
    """One engine file a role; weights stay in onnx/ and are mapped from there."""

    name = "onnxruntime"

    @property
    def version(self) -> str:
        return str(onnxruntime.__version__)

    def compile(self, onnx: Path, output: Path, limits: Limits) -> list[CompiledEngine]:
        from dspark_engines.backends.onnxruntime.compile import compile_graph  # needs the extra [export]

        engines = []
        for role, source, lengths in ROLES:
            file = f"{role}.{limits.slots}.onnx"
            compile_graph(onnx / source, output / file, lengths=lengths, slots=limits.slots)
            engines.append(CompiledEngine(role, limits.slots, file, source))
        return engines

    @contextmanager
    def open(self, bundle: Bundle, options: EngineOptions) -> Iterator[Engines]:
        info = next((b for b in bundle.manifest.backends if b.name == self.name), None)
        if info is None:
            raise BackendError(
                f"{bundle.path}: no engines of backend '{self.name}'",
                hint=f"compile them with: dspark-export compile {bundle.path} --backend {self.name}",
            )
        limits, drafter = bundle.manifest.limits, bundle.manifest.drafter
        capacity = limits.context_length + drafter.block_size  # a block is written behind the context
        by_role = {engine.role: engine for engine in info.engines}
        sessions = {role: open_session(bundle, engine, options) for role, engine in by_role.items()}
        yield Engines(
            OrtVerifyEngine(sessions["verify"], limits.slots, capacity),
            OrtDraftEngine(sessions["draft"], limits.slots, capacity),
        )
