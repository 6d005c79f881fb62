"""Both engines of a bundle, and the one that decides, on a simulated GPU."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest

from dspark_engines.backends import Engines
from dspark_engines.backends.exported import ExportedGraphs, needed_roles, require_file, role_caches
from dspark_engines.backends.padded.lowering import save_lowered
from dspark_engines.backends.padded.shapes import role_shapes
from dspark_engines.backends.tensorrt.backend import ROLES
from dspark_engines.bundle import Bundle
from tests.support.lowered import lowered_graph
from tests.support.simulated_gpu import SIMULATED_TRT, SimulatedCuda, SimulatedEngine

EXECUTION = "dspark_engines.backends.tensorrt.execution."
MODULES = ("cuda", "buffers", "logit_store", "program")
"""Those that import the CUDA runtime, or one of these."""


class Machine(NamedTuple):
    bundle: Bundle
    cuda: SimulatedCuda
    engines: Engines

    @property
    def programs(self) -> tuple[Any, Any, Any]:
        """What runs the target, the drafter and the accept graph."""
        target: Any = self.engines.verify
        drafter: Any = self.engines.draft
        return target._runner, drafter._runner, target._acceptor._runner


@contextmanager
def simulated_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedCuda]:
    """The execution modules import the simulated runtime; they are forgotten afterwards."""
    runtime, bindings = SimulatedCuda(), ModuleType("cuda.bindings")
    bindings.runtime = runtime  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cuda", SimpleNamespace(bindings=bindings))
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    for name in MODULES:
        monkeypatch.delitem(sys.modules, EXECUTION + name, raising=False)
    yield runtime
    for name in MODULES:
        sys.modules.pop(EXECUTION + name, None)


@contextmanager
def running(
    bundle: Bundle, cuda: SimulatedCuda, folder: Path, plugins_for: str = "", greedy: bool = False
) -> Iterator[Machine]:
    from dspark_engines.backends.tensorrt.execution.open import Loaded, assemble

    manifest, loaded = bundle.manifest, {}
    for role in needed_roles(ROLES, manifest.drafter.block_size):
        graph = require_file(ExportedGraphs.of_bundle(bundle), role)
        shapes = role_shapes(
            role, manifest.limits, manifest.drafter.block_size, block_width=manifest.drafter.block_width
        )
        here = greedy and role != "verify"
        save_lowered(
            lowered_graph(graph, shapes.capacity, "fp32", plugins_for=plugins_for, greedy=here), folder / graph.name
        )
        loaded[role] = Loaded(SimulatedEngine(cuda, folder / graph.name), shapes, role_caches(bundle, role), here)
    with assemble(SIMULATED_TRT, loaded) as engines:
        yield Machine(bundle, cuda, engines)
