"""TensorRT-RTX engines executed: against the exported graphs, and speculation against plain decoding."""

from __future__ import annotations

from pathlib import Path

import pytest

from dspark_engines.backends import CompileOptions, EngineOptions, get_backend
from dspark_engines.backends.tensorrt.backend import BF16_SINCE
from dspark_engines.backends.tensorrt.device import local_capability
from dspark_engines.backends.tensorrt.flavours import RTX, capabilities
from dspark_engines.bundle import open_bundle
from dspark_export.bundling import Silent, compile_bundle
from dspark_export.verification import check_identity
from tests.backend.test_engines import build

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", params=["fp32", "fp16", "bf16"])
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    trt = pytest.importorskip("tensorrt_rtx", reason="the extra [tensorrt-rtx] is not installed")
    here = local_capability(RTX)
    if here is None:
        pytest.skip("no GPU")
    if here not in capabilities(RTX, trt):
        pytest.skip(f"TensorRT-RTX does not support this GPU (compute capability {here})")
    if request.param == "bf16" and int(here.split(".")[0]) < BF16_SINCE:
        pytest.skip("this GPU has no bf16")
    bundle = build(tmp_path_factory.mktemp("rtx"), 4)
    options = CompileOptions(precision=request.param, compute_capability=here)
    compile_bundle(bundle.path, "tensorrt-rtx", Silent(), overwrite=False, options=options)
    return bundle.path


def test_engines_against_exported_graphs(compiled: Path) -> None:
    pytest.importorskip("polygraphy", reason="the extra [compare] is not installed")
    from dspark_export.verification.backends import compare_one

    bundle = open_bundle(compiled)
    with get_backend("tensorrt-rtx").open(bundle, EngineOptions()) as engines:
        errors = compare_one(bundle, "tensorrt-rtx", engines)
    assert all(error.passed for error in errors), errors


def test_speculation_changes_nothing(compiled: Path) -> None:
    bundle = open_bundle(compiled)
    prompts = [list(range(5, 5 + length)) for length in (1, 7, 20)]
    with get_backend("tensorrt-rtx").open(bundle, EngineOptions()) as engines:
        report = check_identity(engines, bundle.manifest, prompts, 12, lambda done, total: None)
    assert report.passed, report.differences
