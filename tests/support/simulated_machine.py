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
from dspark_engines.backends.tensorrt.backend import SOURCES
from dspark_engines.backends.tensorrt.lowering import lower_graph, save_lowered
from dspark_engines.backends.tensorrt.shapes import role_shapes
from dspark_engines.bundle import Bundle
from tests.support.simulated_gpu import SIMULATED_TRT, SimulatedCuda, SimulatedEngine

EXECUTION = "dspark_engines.backends.tensorrt.execution."


class Machine(NamedTuple):
    bundle: Bundle
    cuda: SimulatedCuda
    engines: Engines
    programs: list[Any]


@contextmanager
def simulated_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedCuda]:
    """The execution modules import the simulated runtime; they are forgotten afterwards."""
    runtime, bindings = SimulatedCuda(), ModuleType("cuda.bindings")
    bindings.runtime = runtime  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cuda", SimpleNamespace(bindings=bindings))
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    for name in ("cuda", "buffers", "program"):
        monkeypatch.delitem(sys.modules, EXECUTION + name, raising=False)
    yield runtime
    for name in ("cuda", "buffers", "program"):
        sys.modules.pop(EXECUTION + name, None)


@contextmanager
def running(
    bundle: Bundle, cuda: SimulatedCuda, folder: Path, plugins_for: str = "", greedy: bool = False
) -> Iterator[Machine]:
    from dspark_engines.backends.tensorrt.execution.deciding import TrtDecider
    from dspark_engines.backends.tensorrt.execution.engines import TrtDraftEngine, TrtVerifyEngine
    from dspark_engines.backends.tensorrt.execution.program import TrtProgram

    manifest, programs, shapes_of = bundle.manifest, [], []
    for role, source in SOURCES:
        shapes = role_shapes(role, manifest.limits, manifest.drafter.block_size)
        here = greedy and role != "verify"
        graph = bundle.path / "onnx" / source
        model = lower_graph(graph, shapes.capacity, "fp32", plugins_for=plugins_for, greedy=here)
        save_lowered(model, folder / source)
        outside = {"logits": programs[0].address("logits")} if role == "accept" else {}
        programs.append(TrtProgram(SIMULATED_TRT, SimulatedEngine(cuda, folder / source), shapes, outside))
        shapes_of.append(shapes)
    decider = TrtDecider(programs[2], shapes_of[2], greedy)
    verify_engine = TrtVerifyEngine(programs[0], shapes_of[0], decider)
    drafter = TrtDraftEngine(programs[1], shapes_of[1], greedy)
    yield Machine(bundle, cuda, Engines(verify_engine, drafter), programs)
    for program in reversed(programs):
        program.close()
