"""Engines really built by TensorRT-RTX, which needs no GPU for it; whether they compute is tests/gpu's business."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from dspark_engines.backends import CompileOptions
from dspark_engines.backends.padded.shapes import role_shapes
from dspark_engines.backends.tensorrt.building import EngineRequest, build_engine
from dspark_engines.backends.tensorrt.building.disk import disk_bytes
from dspark_engines.backends.tensorrt.building.memory import available_bytes, check_memory
from dspark_engines.backends.tensorrt.building.network import parse_network
from dspark_engines.backends.tensorrt.flavours import RTX, capabilities
from dspark_engines.backends.tensorrt.logger import make_logger
from dspark_engines.bundle import Bundle, Role, open_bundle
from dspark_engines.errors import BackendError
from dspark_export.bundling import NamedDrafter, Pair, Silent, compile_bundle
from dspark_export.bundling.describe import graph_bytes
from dspark_export.checkpoints import open_drafter, open_target
from tests.backend.backends.test_engines import build
from tests.support import tiny
from tests.support.command_line import run

CAPABILITY = "8.9"


@pytest.fixture(scope="module")
def trt() -> Any:
    return pytest.importorskip("tensorrt_rtx", reason="the extra [tensorrt-rtx] is not installed")


@pytest.fixture(scope="module")
def compiled(trt: Any, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny pair for two rows, with engines of both backends."""
    bundle = build(tmp_path_factory.mktemp("rtx"), 2)
    options = CompileOptions(compute_capability=CAPABILITY, token_buckets=(4, 12))
    compile_bundle(bundle.path, "tensorrt-rtx", Silent(), overwrite=False, options=options)
    return open_bundle(bundle.path)


def test_the_manifest_says_what_for(compiled: Bundle, trt: Any) -> None:
    cpu, gpu = compiled.manifest.backends
    assert (gpu.name, gpu.version) == ("tensorrt-rtx", trt.__version__)
    assert {engine.compute_capability for engine in cpu.engines} == {None}
    precisions = {engine.role: engine.precision for engine in gpu.engines}
    assert precisions == {"verify": "bf16", "draft": "bf16", "accept": "fp32"}
    for engine in gpu.engines:
        assert (engine.slots, engine.compute_capability, engine.weights) == (2, CAPABILITY, "")
        assert engine.token_buckets == [4, 12]
        assert compiled.file(engine.path).stat().st_size > 10_000
    assert not list(compiled.path.rglob(".lowered.*"))


def test_the_room_that_is_asked_for_is_enough(compiled: Bundle, tiny_pair: tuple[Path, Path]) -> None:
    """Of the exported graphs and of the checkpoints the same is expected; what engines took is below."""
    exported = graph_bytes(compiled.file("onnx"))
    target = open_target(tiny_pair[0])
    asked = Pair(target, (NamedDrafter("dspark", open_drafter(tiny_pair[1], target.spec)),)).graph_bytes
    for role, weights in asked.items():
        assert weights <= exported[role] <= 1.5 * weights  # graphs have tables of angles and constants on top
    taken = sum(compiled.file(engine.path).stat().st_size for engine in compiled.manifest.backends[1].engines)
    assert taken < disk_bytes(asked, "bf16") < disk_bytes(asked, "fp32")


@pytest.mark.parametrize(
    ("half_precision", "engines"),
    [({"verify": 270, "draft": 154}, 354 + 147), ({"draft": 2790}, 2870)],
    ids=["SmolLM2", "drafter of Qwen3-4B"],
)
def test_the_estimate_of_measured_builds(half_precision: dict[Role, int], engines: int) -> None:
    """In MB, as docs/tensorrt.md has them. Beside finished engines lies the lowered copy of the one being built."""
    estimate = disk_bytes({role: 2 * size * 10**6 for role, size in half_precision.items()}, None) / 10**6
    peak = engines + min(half_precision.values())
    assert peak < estimate < 1.6 * peak


@pytest.mark.parametrize(("role", "layers"), [("verify", tiny.LAYERS), ("draft", 2)])
def test_attention_is_native(compiled: Bundle, role: str, layers: int) -> None:
    report = json.loads(compiled.file(f"engines/tensorrt-rtx/{role}.layers.json").read_text())
    if report["source"] == "network":  # with a GPU the inspector tells of fused layers instead
        counts = report["layers"]
        assert (counts["ATTENTION_INPUT"], counts["KV_CACHE_UPDATE"]) == (layers, 2 * layers)
        assert len(report["native"]) == 3 * layers + counts["ROTARY_EMBEDDING"]
        assert "CONDITION" not in counts


def test_inspect_tells(compiled: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = run(capsys, "inspect", compiled.path)
    assert outcome.code == 0
    assert "verify (2 slots, compute capability 8.9, bf16)" in outcome.out


@pytest.mark.parametrize(("kind", "precision"), [("none", "fp16"), ("gated", "fp32"), ("rnn", "fp16")])
def test_every_head_in_every_precision(trt: Any, tmp_path: Path, kind: str, precision: str) -> None:
    bundle = build(tmp_path, 1, kind=kind)
    shapes, done = role_shapes("draft", bundle.manifest.limits, tiny.BLOCK), []
    request = EngineRequest(
        "draft",
        bundle.path / "onnx/drafter.onnx",
        tmp_path / "draft.engine",
        shapes,
        precision,
        CAPABILITY,  # type: ignore[arg-type]
    )
    build_engine(RTX, trt, request, CompileOptions(progress=lambda at, of: done.append(at / of)))
    assert request.destination.stat().st_size > 10_000
    assert done
    assert max(done) <= 1


def test_a_greedy_drafter(trt: Any, tmp_path: Path) -> None:
    """Without an output that only sampled requests need, on this flavour too."""
    bundle = build(tmp_path, 1)
    options = CompileOptions(compute_capability=CAPABILITY, greedy_drafts=True)
    manifest = compile_bundle(bundle.path, "tensorrt-rtx", Silent(), overwrite=False, options=options)
    engines = manifest.backends[1].engines
    assert [(engine.greedy_drafts, engine.plugins) for engine in engines] == [(False, []), (True, []), (True, [])]
    assert all(bundle.file(engine.path).stat().st_size > 10_000 for engine in engines[1:])


def test_the_real_drafter(trt: Any, smollm2_bundle: Path, tmp_path: Path) -> None:
    """The example's drafter, tables of 49,152 tokens and all."""
    manifest, onnx_file = open_bundle(smollm2_bundle).manifest, smollm2_bundle / "onnx" / "drafter.onnx"
    limits = manifest.limits.model_copy(update={"slots": 1})
    shapes = role_shapes("draft", limits, manifest.drafter.block_size)
    request = EngineRequest("draft", onnx_file, tmp_path / "draft.engine", shapes, "bf16", CAPABILITY)
    build_engine(RTX, trt, request, CompileOptions())
    assert 90e6 < request.destination.stat().st_size < 300e6  # a table of 57 MB, layers and head of 40 MB, kernels


def test_a_graph_that_the_builder_refuses(trt: Any, tmp_path: Path) -> None:
    """Caches that are shorter than what a step writes."""
    bundle = build(tmp_path, 1)
    shapes = replace(role_shapes("draft", bundle.manifest.limits, tiny.BLOCK), capacity=4)
    request = EngineRequest(
        "draft", bundle.path / "onnx/drafter.onnx", tmp_path / "draft.engine", shapes, "bf16", CAPABILITY
    )
    with pytest.raises(BackendError, match=r"TensorRT-RTX .* cannot build the draft engine: "):
        build_engine(RTX, trt, request, CompileOptions())


def test_capabilities(trt: Any) -> None:
    known = list(capabilities(RTX, trt))
    assert known == sorted(known, key=lambda text: tuple(map(int, text.split("."))))
    assert {"7.5", "8.9", "12.0"} <= set(known)


def test_a_node_that_the_parser_refuses_is_named(trt: Any, tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    node = helper.make_node("Wings", ["x"], ["y"], name="a.strange.node", domain="nobody")
    graph = helper.make_graph([node], "g", [value("x", TensorProto.FLOAT, [1])], [value("y", TensorProto.FLOAT, [1])])
    opsets = [helper.make_opsetid("", 24), helper.make_opsetid("nobody", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=11), tmp_path / "strange.onnx")
    logger = make_logger(trt)
    with pytest.raises(BackendError, match=r"refuses node 'a\.strange\.node' \(Wings\)"):
        parse_network(trt, trt.Builder(logger), logger, tmp_path / "strange.onnx")


def test_ctrl_c_stops_a_build(trt: Any, tmp_path: Path) -> None:
    bundle = build(tmp_path, 1)
    shapes = role_shapes("draft", bundle.manifest.limits, tiny.BLOCK)
    request = EngineRequest(
        "draft", bundle.path / "onnx/drafter.onnx", tmp_path / "draft.engine", shapes, "bf16", CAPABILITY
    )

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_engine(RTX, trt, request, CompileOptions(progress=interrupt))


def test_memory_is_what_the_machine_and_its_group_leave(tmp_path: Path) -> None:
    assert available_bytes(tmp_path) is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable: 4000000 kB\n")
    assert available_bytes(tmp_path) == 4_096_000_000
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory.current").write_text("1000\n")
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("max\n")
    assert available_bytes(tmp_path) == 4_096_000_000
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("5000\n")
    assert available_bytes(tmp_path) == 4000


def test_no_build_without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    module = "dspark_engines.backends.tensorrt.building.memory.available_bytes"
    monkeypatch.setattr(module, lambda: 2_000_000_000)
    check_memory(200_000_000)
    with pytest.raises(BackendError, match=r"about 2\.3 GB needed, 2\.0 GB available"):
        check_memory(400_000_000)
