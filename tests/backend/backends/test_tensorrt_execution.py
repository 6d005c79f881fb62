"""Execution on TensorRT over a simulated device: buffers, addresses, captured graphs, slots. No GPU, no TensorRT."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dspark_engines.bundle import Bundle, Limits, open_bundle
from dspark_engines.errors import BackendError
from dspark_export.bundling import BuildPlan, Silent, build_bundle
from dspark_export.checks import check_identity, compare, compare_engines
from tests.backend.backends.test_engines import CONTEXT, build, draft, verify
from tests.support import tiny
from tests.support.simulated_gpu import Code, SimulatedCuda
from tests.support.simulated_machine import Machine, running


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return build(tmp_path_factory.mktemp("tensorrt"), 4)


@pytest.fixture
def machine(bundle: Bundle, cuda: SimulatedCuda, tmp_path: Path) -> Iterator[Machine]:
    with running(bundle, cuda, tmp_path) as made:
        yield made


def test_engines_compute_what_the_graphs_say(machine: Machine) -> None:
    results = compare_engines(machine.bundle, machine.engines)
    assert all(result.passed for result in results), results


@pytest.mark.parametrize("plugins_for", ["", "9.0"])
def test_a_block_that_is_wider_than_its_drafts(cuda: SimulatedCuda, tmp_path: Path, plugins_for: str) -> None:
    """Its anchor predicts nothing, and a layer slides: buffers, masks and what is accepted have their own counts."""
    target = tiny.write_target(tmp_path / "target")
    spec = replace(tiny.with_windows(tiny.drafter_spec(), 6, 0), anchor="given")
    drafter, limits = (
        tiny.write_drafter(tmp_path / "drafter", spec),
        Limits(context_length=CONTEXT, prefill_chunk=16, slots=2),
    )
    build_bundle(BuildPlan(target, drafter, tmp_path / "bundle", "onnxruntime", limits), Silent())
    (tmp_path / "lowered").mkdir()
    with running(open_bundle(tmp_path / "bundle"), cuda, tmp_path / "lowered", plugins_for) as made:
        results = compare_engines(made.bundle, made.engines)
        assert all(result.passed for result in results), results
        report = check_identity(made.engines, made.bundle.manifest, [[5, 6, 7], [9, 3]], 30, lambda *_: None)
    assert report.passed
    assert max(r.proposed for result in report.results for r in result.rounds) == tiny.BLOCK - 1


def test_a_captured_graph_computes_what_its_first_run_did(machine: Machine) -> None:
    """The same step again and again: run, recorded, replayed, each on new tokens."""
    engines, random = machine.engines, np.random.default_rng(1)
    replayed, plain = engines.verify.new_slot(), engines.verify.new_slot()
    for used in range(0, 20, 5):
        text = random.integers(0, tiny.VOCAB, 5).tolist()
        before = machine.cuda.launches
        logits, features = verify(engines, [replayed], [text], [used])[0]
        assert (machine.cuda.launches > before) == (used > 0)
        for at, token in enumerate(text):  # one token a step is another shape, so another graph
            single, feature = verify(engines, [plain], [[token]], [used + at])[0]
            assert compare("target.logits", logits[at : at + 1], single).passed
            assert compare("target.features", features[at : at + 1], feature).passed


def test_rows_do_not_see_each_other(machine: Machine) -> None:
    """Long and short rows in one step, in changing company, on slots that stand anywhere in the caches."""
    engines, random = machine.engines, np.random.default_rng(2)
    slots = [(engines.verify.new_slot(), engines.draft.new_slot()) for _ in range(3)]
    used = [0, 0, 0]
    steps = [([2], [21]), ([0, 1, 2], [3, 25, 1]), ([1, 0], [6, 1]), ([2, 1, 0], [1, 1, 6])]
    alone: dict[int, list[int]] = {row: [] for row in range(3)}
    for rows, counts in steps:
        texts = [random.integers(0, tiny.VOCAB, count).tolist() for count in counts]
        results = verify(engines, [slots[row][0] for row in rows], texts, [used[row] for row in rows])
        parts = [features for _, features in results]
        drafts = draft(engines, [slots[row][1] for row in rows], parts, [used[row] for row in rows], rows)
        for row, text, (logits, features), ours in zip(rows, texts, results, drafts, strict=True):
            lone, lone_draft = engines.verify.new_slot(), engines.draft.new_slot()
            alone[row] += text
            all_logits, all_features = verify(engines, [lone], [alone[row]], [0])[0]
            assert compare("target.logits", logits, all_logits[used[row] :]).passed
            assert compare("target.features", features, all_features[used[row] :]).passed
            past = all_features[: used[row]]
            if len(past):
                draft(engines, [lone_draft], [past], [0], [row])
            ids, confidence, draft_logits = draft(engines, [lone_draft], [features], [used[row]], [row])[0]
            assert ours[0].tolist() == ids.tolist()
            assert compare("drafter.confidence_logits", ours[1], confidence).passed
            assert draft_logits.size == (row % 2) * ours[2].size  # a greedy row alone: they stay on the device
            assert not draft_logits.size or compare("drafter.draft_logits", ours[2], draft_logits).passed
            used[row] += len(text)
            del lone, lone_draft


def test_a_greedy_engine_runs_without_what_it_does_not_read(
    machine: Machine, bundle: Bundle, cuda: SimulatedCuda, tmp_path: Path
) -> None:
    """No temperature, no uniforms, no draft logits: run, recorded and replayed, against the whole engine."""
    (tmp_path / "greedy").mkdir()
    features = np.random.default_rng(4).standard_normal((3, bundle.manifest.drafter.feature_size)).astype(np.float32)
    with running(bundle, cuda, tmp_path / "greedy", "9.0", greedy=True) as greedy:
        slots = [machine.engines.draft.new_slot(), greedy.engines.draft.new_slot()]
        for used in (0, 3, 6):
            whole, chain = (
                draft(engines, [slot], [features], [used], [0])[0]
                for engines, slot in zip((machine.engines, greedy.engines), slots, strict=True)
            )
            assert chain[0].tolist() == whole[0].tolist()
            assert compare("drafter.confidence_logits", chain[1], whole[1]).passed
            assert chain[2].shape == (tiny.BLOCK, 0)
        assert not {"temperature", "uniforms", "draft_logits"} & set(greedy.programs[1]._buffers.tensors)


def test_slots_come_back(machine: Machine) -> None:
    engine = machine.engines.verify
    slots = [engine.new_slot() for _ in range(4)]
    with pytest.raises(BackendError, match="all 4 cache slots are in use"):
        engine.new_slot()
    places = sorted(slot.place for slot in slots)
    del slots[2]
    gc.collect()
    assert engine.new_slot().place in places


def test_everything_is_given_back(bundle: Bundle, cuda: SimulatedCuda, tmp_path: Path) -> None:
    with running(bundle, cuda, tmp_path) as machine:
        verify(machine.engines, [machine.engines.verify.new_slot()], [[1, 2]], [0])
        assert cuda.memory
        assert len(cuda.streams) == 4  # three engines, and who keeps draft logits
    assert (cuda.memory, cuda.streams) == ({}, set())


NO_EXPORTER = """
import importlib, sys
from types import ModuleType, SimpleNamespace
bindings = ModuleType("cuda.bindings")
bindings.runtime = SimpleNamespace()
sys.modules.update({"cuda": SimpleNamespace(bindings=bindings), "cuda.bindings": bindings})
sys.modules.update(dict.fromkeys(("onnx", "onnx_ir", "onnxscript", "torch", "polygraphy")))
for name in ("tensorrt.backend", "padded.engines", "tensorrt.execution.program", "tensorrt.execution.open"):
    importlib.import_module("dspark_engines.backends." + name)
"""


def test_execution_needs_no_exporter() -> None:
    """A production host has neither onnx nor torch. In a process of its own: modules loaded twice are two things."""
    done = subprocess.run([sys.executable, "-c", NO_EXPORTER], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_failing_call_names_itself(cuda: SimulatedCuda) -> None:
    from dspark_engines.backends.tensorrt.execution.cuda import DeviceMemory

    cuda.cudaMalloc = lambda size: (Code.cudaErrorInvalidValue, None)  # type: ignore[method-assign]
    cuda.cudaMalloc.__name__ = "cudaMalloc"
    with pytest.raises(BackendError, match="cudaMalloc: cudaErrorInvalidValue"):
        DeviceMemory(1 << 40)
