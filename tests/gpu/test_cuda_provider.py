"""ONNX Runtime's CUDA provider on a GPU: against the exported graphs, the CPU's engines, and plain decoding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dspark_engines.backends import CompileOptions, EngineOptions, get_backend
from dspark_engines.backends.onnxruntime.loader import onnxruntime
from dspark_engines.backends.onnxruntime_cuda.checking import BF16_SINCE, CUDA
from dspark_engines.backends.onnxruntime_cuda.device import local_capability
from dspark_engines.bundle import open_bundle
from dspark_export.bundling import Silent, compile_bundle
from dspark_export.checks import check_identity
from tests.backend.backends.test_engines import build, verify
from tests.support import tiny

pytestmark = pytest.mark.gpu

NAME = "onnxruntime-cuda"
PROMPTS = [list(range(5, 5 + length)) for length in (1, 7, 20)]


@pytest.fixture(scope="module", params=["fp32", "fp16", "bf16"])
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if CUDA not in onnxruntime.get_available_providers():
        pytest.skip("the package onnxruntime-gpu is not installed (docs/cuda.md)")
    here = local_capability()
    if here is None:
        pytest.skip("no GPU")
    if request.param == "bf16" and int(here.split(".")[0]) < BF16_SINCE:
        pytest.skip("this GPU has no bf16")
    bundle = build(tmp_path_factory.mktemp("cuda"), 4)
    options = CompileOptions(precision=request.param)
    compile_bundle(bundle.path, NAME, Silent(), overwrite=False, options=options)
    return bundle.path


def test_engines_against_exported_graphs(compiled: Path) -> None:
    pytest.importorskip("polygraphy", reason="the extra [compare] is not installed")
    from dspark_export.checks.backends import compare_one

    bundle = open_bundle(compiled)
    with get_backend(NAME).open(bundle, EngineOptions()) as engines:
        errors = compare_one(bundle, NAME, engines)
    assert all(error.passed for error in errors), errors


def test_speculation_changes_nothing(compiled: Path) -> None:
    bundle = open_bundle(compiled)
    with get_backend(NAME).open(bundle, EngineOptions()) as engines:
        report = check_identity(engines, bundle.manifest, PROMPTS, 12, lambda done, total: None)
    assert report.passed, report.differences


def test_rows_together_are_what_they_are_alone(compiled: Path) -> None:
    """Rows of unequal length in one step, a rollback, and cache rows in the middle of the memory.

    The same tokens in other company go through other kernels: nearly the same logits, not the same bits.
    """
    bundle, random = open_bundle(compiled), np.random.default_rng(0)
    texts = [random.integers(0, tiny.VOCAB, count).tolist() for count in (3, 30, 5)]
    used = [len(text) - 1 for text in texts]
    with get_backend(NAME).open(bundle, EngineOptions()) as engines:
        slots = [engines.verify.new_slot() for _ in texts]
        whole = verify(engines, slots, texts, [0, 0, 0])
        again = verify(engines, slots, [text[-1:] for text in texts], used)
    for (logits, _), (last, _) in zip(whole, again, strict=True):
        np.testing.assert_allclose(last[0], logits[-1], atol=0.05 * float(np.abs(logits[-1]).max()))


def test_the_cpu_generates_the_same(compiled: Path) -> None:
    """In float32; in half precision a near-tie may fall the other way."""
    bundle = open_bundle(compiled)
    if bundle.manifest.backends[1].engines[0].precision != "fp32":
        pytest.skip("only float32 engines are compared token for token")
    outputs = []
    for name in (NAME, "onnxruntime"):
        with get_backend(name).open(bundle, EngineOptions()) as engines:
            report = check_identity(engines, bundle.manifest, PROMPTS, 12, lambda done, total: None)
        outputs.append([result.token_ids for result in report.results])
    assert outputs[0] == outputs[1]
