"""Engines of both flavours executed: against the exported graphs, and speculation against plain decoding."""

from __future__ import annotations

import pytest

from dspark_engines import GenerationRequest, Runtime, RuntimeOptions, SamplingParams
from dspark_engines.backends import CompileOptions, EngineOptions, EnginePrecision, get_backend
from dspark_engines.backends.tensorrt.backend import BF16_SINCE
from dspark_engines.backends.tensorrt.device import local_capability
from dspark_engines.backends.tensorrt.flavours import RTX, TENSORRT, Flavour, capabilities
from dspark_engines.bundle import Bundle, open_bundle
from dspark_export.bundling import Silent, compile_bundle
from dspark_export.checks import check_identity
from tests.backend.backends.test_engines import build

pytestmark = pytest.mark.gpu
CASES: list[tuple[Flavour, EnginePrecision, bool | None]] = [
    *((RTX, precision, None) for precision in ("fp32", "fp16", "bf16")),
    *((TENSORRT, precision, plugins) for precision in ("fp32", "bf16") for plugins in (True, False)),
]


def name_of(case: object) -> str:
    flavour, precision, plugins = case  # type: ignore[misc]
    return f"{flavour.name}-{precision}" + ("-plugins" if plugins else "")


def require(flavour: Flavour, precision: str) -> str:
    """The GPU's compute capability, if this flavour can serve it here."""
    trt = pytest.importorskip(flavour.module, reason=f"the extra [{flavour.extra}] is not installed")
    here = local_capability(flavour)
    if here is None:
        pytest.skip("no GPU")
    if flavour.portable and here not in capabilities(flavour, trt):
        pytest.skip(f"{flavour.title} does not support this GPU (compute capability {here})")
    if precision == "bf16" and int(here.split(".")[0]) < BF16_SINCE:
        pytest.skip("this GPU has no bf16")
    return here


@pytest.fixture(scope="module", params=CASES, ids=name_of)
def compiled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, str]:
    flavour, precision, plugins = request.param
    here = require(flavour, precision)
    if plugins:
        pytest.importorskip("triton", reason="the extra [kernels] is not installed")
    path = build(tmp_path_factory.mktemp("gpu"), 4).path
    options = CompileOptions(precision=precision, compute_capability=here, plugins=plugins)
    compile_bundle(path, flavour.name, Silent(), overwrite=False, options=options)
    return open_bundle(path), flavour.name


def test_engines_against_exported_graphs(compiled: tuple[Bundle, str]) -> None:
    """Logits, features, drafts, and what is decided over drafts."""
    pytest.importorskip("polygraphy", reason="the extra [compare] is not installed")
    from dspark_export.checks.backends import compare_one

    bundle, name = compiled
    with get_backend(name).open(bundle, EngineOptions()) as engines:
        assert engines.verify.accepts_on_device(sampling=True)
        errors = compare_one(bundle, name, engines)
    assert all(error.passed for error in errors), errors


def test_speculation_changes_nothing(compiled: tuple[Bundle, str]) -> None:
    bundle, name = compiled
    prompts = [list(range(5, 5 + length)) for length in (1, 7, 20)]
    with get_backend(name).open(bundle, EngineOptions()) as engines:
        report = check_identity(engines, bundle.manifest, prompts, 12, lambda done, total: None)
    assert report.passed, report.differences


@pytest.mark.parametrize("pipeline", ["off", "on"])
def test_requests_in_company(compiled: tuple[Bundle, str], pipeline: str) -> None:
    """Greedy, sampled and truncated requests at once, in one cohort and in two.

    Twice to the same end in float32; in half precision their company, which differs, may turn a near-tie over.
    """
    bundle, name = compiled
    kinds = (SamplingParams(), SamplingParams(0.8, seed=4), SamplingParams(1.0, top_p=0.9, seed=5), SamplingParams())
    requests = [GenerationRequest(list(range(3, 9 + at)), 12, sampling=params) for at, params in enumerate(kinds)]
    with Runtime(bundle, RuntimeOptions(name, pipeline=pipeline, speculation="on")) as runtime:  # type: ignore[arg-type]
        one, other = ([result.token_ids for result in runtime.generate(requests)] for _ in range(2))
    assert all(0 < len(tokens) <= 12 for tokens in one + other)
    backend = get_backend(name).find_engines(bundle)
    assert one == other or backend.engines[0].precision != "fp32"
