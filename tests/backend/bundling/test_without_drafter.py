"""A target alone: a bundle that decodes plainly, on every backend that runs here, and says what it cannot do."""

from __future__ import annotations

from pathlib import Path

import pytest

from dspark_engines import Bundle, GenerationRequest, Runtime, RuntimeOptions, SamplingParams, open_bundle
from dspark_engines.backends import CompileOptions, EngineOptions, get_backend
from dspark_engines.bundle import Limits
from dspark_engines.errors import BackendError, RequestError
from dspark_export.bundling import BuildPlan, Silent, build_bundle, compile_bundle
from dspark_export.checks import compare_engines
from tests.support import cuda_provider
from tests.support.command_line import run
from tests.support.simulated_gpu import SimulatedCuda
from tests.support.simulated_machine import running

LIMITS = Limits(context_length=96, prefill_chunk=16, slots=2)
REQUESTS = [
    GenerationRequest([5, 6, 7], 12),
    GenerationRequest([9], 12, sampling=SamplingParams(0.9, seed=3)),
    GenerationRequest([4, 8] * 12, 12),
]


@pytest.fixture(scope="module", params=["fp32", "int8"])
def bundle(
    request: pytest.FixtureRequest, tiny_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    path = tmp_path_factory.mktemp("alone") / request.param
    build_bundle(BuildPlan(tiny_pair[0], None, path, "onnxruntime", LIMITS, precision=request.param), Silent())
    return open_bundle(path)


def answers(bundle: Bundle, **options: object) -> list[list[int]]:
    with Runtime(bundle, RuntimeOptions(**options)) as runtime:  # type: ignore[arg-type]
        return [result.token_ids for result in runtime.generate(REQUESTS)]


def test_it_says_what_the_same_target_says_with_a_drafter(
    bundle: Bundle, tiny_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    plan = BuildPlan(*tiny_pair, tmp_path / "pair", "onnxruntime", LIMITS, precision=bundle.manifest.precision)
    build_bundle(plan, Silent())
    pair, alone = open_bundle(tmp_path / "pair"), answers(bundle)
    assert alone == answers(pair, speculation="off")
    assert alone[::2] == answers(pair, speculation="on")[::2]  # greedy; draws come out differently


def test_the_manifest_and_the_files(bundle: Bundle) -> None:
    assert not bundle.manifest.drafter.drafts
    assert list(bundle.manifest.graphs) == ["target"]
    assert {engine.role for engine in bundle.manifest.backends[0].engines} == {"verify"}
    assert not list(bundle.path.rglob("*draft*"))


def test_engines_against_the_exported_graph(bundle: Bundle) -> None:
    with get_backend("onnxruntime").open(bundle, EngineOptions(1)) as engines:
        results = compare_engines(bundle, engines)
        with pytest.raises(BackendError, match="this bundle has no drafter"):
            engines.draft.new_slot()
    assert results
    assert all(result.passed for result in results), results


def test_a_gpu_backend(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    if bundle.manifest.precision == "int8":
        pytest.skip("no GPU backend takes integers")
    cuda_provider.install(monkeypatch)
    options = CompileOptions(precision="fp32")
    compile_bundle(bundle.path, "onnxruntime-cuda", Silent(), overwrite=True, options=options)
    there = open_bundle(bundle.path)
    with get_backend("onnxruntime-cuda").open(there, EngineOptions()) as engines:
        assert all(result.passed for result in compare_engines(there, engines))
    assert answers(there, backend="onnxruntime-cuda")[0] == answers(there)[0]


def test_tensorrt(bundle: Bundle, cuda: SimulatedCuda, tmp_path: Path) -> None:
    """Over a simulated device: an output without a column, no accept engine, no drafter."""
    if bundle.manifest.precision == "int8":
        pytest.skip("no GPU backend takes integers")
    with running(bundle, cuda, tmp_path) as machine:
        assert all(result.passed for result in compare_engines(bundle, machine.engines))


def test_speculation_cannot_be_on(bundle: Bundle) -> None:
    with (
        pytest.raises(RequestError, match="has no drafter, so speculation cannot be on"),
        Runtime(bundle, RuntimeOptions(speculation="on")),
    ):
        pass


def test_commands(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    checked = run(capsys, "check", bundle.path, "--limit", "2", "--max-new-tokens", "4")
    assert (checked.code, "the bundle holds" in checked.out) == (0, True), checked
    assert "none: it decodes plainly" in run(capsys, "inspect", bundle.path).out
    said = run(capsys, "generate", bundle.path, "--raw", "--prompt=hi", "--max-new-tokens=4")
    assert (said.code, "the bundle has no drafter" in said.err) == (0, True), said
    for command in ("profile", "calibrate"):
        prompts = ("--prompts", "calibration/prompts/calibration.jsonl") if command == "calibrate" else ()
        refused = run(capsys, command, bundle.path, *prompts)
        assert (refused.code, "has no drafter" in refused.err) == (2, True), refused
