"""Everything that a user can get wrong: one line that names it, one hint, exit code 2, nothing left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dspark_engines import GenerationRequest, Runtime, RuntimeOptions, SamplingParams, open_bundle
from dspark_engines.backends import EngineOptions
from dspark_engines.errors import RequestError
from dspark_export.commands import main as command_line
from tests.support.bad_calibration import CALIBRATION
from tests.support.bad_chain_layouts import CHAIN_LAYOUTS
from tests.support.bad_chains import CHAINS
from tests.support.bad_checkpoints import DRAFTERS, TARGETS
from tests.support.bad_cuda import CUDA
from tests.support.bad_dflash import DFLASH
from tests.support.bad_evaluation import EVALUATION
from tests.support.bad_experts import CASES as EXPERTS
from tests.support.bad_gemma4 import GEMMA4
from tests.support.bad_gemma4_gguf import CASES as GEMMA4_GGUF
from tests.support.bad_gpu import GPU
from tests.support.bad_options import OPTIONS
from tests.support.bad_recognition import RECOGNITION
from tests.support.bad_requests import BUNDLES, MALFORMED, OUTPUTS, REQUESTS
from tests.support.bad_speculators import SPECULATORS
from tests.support.bad_vocabulary import VOCABULARY
from tests.support.bad_weights import CASES as WEIGHTS
from tests.support.command_line import PROMPT, Place, generate, run

CASES = {
    **TARGETS, **WEIGHTS, **EXPERTS, **DRAFTERS, **OUTPUTS, **BUNDLES, **REQUESTS, **OPTIONS, **CALIBRATION, **GPU,
    **CUDA, **VOCABULARY, **SPECULATORS, **DFLASH, **CHAINS, **CHAIN_LAYOUTS, **RECOGNITION, **GEMMA4, **GEMMA4_GGUF,
    **EVALUATION,
}  # fmt: skip


GOOD = GenerationRequest([5, 6, 7, 8], 12, sampling=SamplingParams(0.8, seed=3))
OPTIONS_OF_ONE = RuntimeOptions(engines=EngineOptions(threads=1), speculation="on")


@pytest.mark.parametrize("case", CASES)
def test_bad_input(place: Place, capsys: pytest.CaptureFixture[str], case: str) -> None:
    prepare, fragment = CASES[case]
    arguments = prepare(place)
    before = place.files()
    outcome = run(capsys, *arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    error, hint = outcome.err.splitlines()
    assert error.startswith("error: ")
    assert fragment in error
    assert hint.startswith("hint: ")
    assert len(hint) > len("hint: ")
    assert place.files() == before


@pytest.fixture(scope="module")
def expected(tiny_bundle: Path) -> list[int]:
    """What `GOOD` gets from a runtime that has seen nothing else."""
    with Runtime(open_bundle(tiny_bundle), OPTIONS_OF_ONE) as runtime:
        return runtime.generate([GOOD])[0].token_ids


@pytest.fixture(scope="module")
def runtime(tiny_bundle: Path) -> Iterator[Runtime]:
    """One for all malformed requests."""
    with Runtime(open_bundle(tiny_bundle), OPTIONS_OF_ONE) as opened:
        yield opened


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_request_is_refused_and_the_next_one_works(
    runtime: Runtime, expected: list[int], case: str
) -> None:
    with pytest.raises(RequestError) as caught:
        runtime.submit(MALFORMED[case]())
    assert caught.value.hint
    assert runtime.generate([GOOD])[0].token_ids == expected


def test_a_good_prompt_works_behind_every_bad_one(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """In one process, on one bundle."""
    first = generate(capsys, place.bundle, *PROMPT)["token_ids"]
    for prepare, _ in REQUESTS.values():
        assert run(capsys, *prepare(place)).code == 2
    assert generate(capsys, place.bundle, *PROMPT)["token_ids"] == first


def test_a_capability_that_is_not_supported_comes_with_those_that_are(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    for case in ("gpu: capability unsupported", "gpu: local GPU unsupported", "gpu: none here"):
        assert "7.5, 8.0, 8.6, 8.9, 12.0" in run(capsys, *CASES[case].prepare(place)).err.splitlines()[1]


@pytest.mark.parametrize(
    ("case", "hint"),
    [
        ("gpu: TensorRT-RTX missing", "pip install 'dspark-export[tensorrt-rtx]'"),
        ("gpu: TensorRT missing", "pip install 'dspark-export[tensorrt]'"),
        ("cuda: no provider", "pip install 'onnxruntime-gpu[cuda,cudnn]>=1.31,<2'"),
        ("cuda: package overwritten", "pip uninstall --yes onnxruntime onnxruntime-gpu && pip install"),
        ("cuda: no bf16", "--backend onnxruntime-cuda --overwrite --engine-precision fp16"),
        ("plugins: no Triton", "pip install 'dspark-export[tensorrt,kernels]', or pass --no-plugins"),
    ],
)
def test_a_missing_library_comes_with_its_extra(
    place: Place, capsys: pytest.CaptureFixture[str], case: str, hint: str
) -> None:
    assert hint in run(capsys, *CASES[case].prepare(place)).err.splitlines()[1]


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = run(capsys)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("Usage: dspark-export [OPTIONS]")


def test_a_failed_replacement_keeps_the_old_bundle(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = CASES["output: disk full at the engines"].prepare(place)
    arguments = [*arguments, f"--output={place.bundle}", "--overwrite"]  # the last one counts
    before = place.files()
    assert run(capsys, *arguments).code == 2
    assert place.files() == before
    assert run(capsys, "inspect", place.bundle).code == 0


def test_a_bug_is_not_swallowed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anything but a user's error reaches the interpreter, which shows the traceback and exits with 1."""

    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("dspark_export.bundling.build.describe_bundle", broken)
    arguments = place.build()
    before = place.files()
    with pytest.raises(ZeroDivisionError, match="a bug"):
        command_line.main(arguments)
    assert place.files() == before


def test_a_file_that_nobody_answered_for_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object, **options: object) -> None:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(command_line.cli, "main", refused)
    outcome = run(capsys, "build")
    assert (outcome.code, outcome.err.splitlines()[0]) == (2, "error: No usable temporary directory found")


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("onnxscript", "export"),
        ("gguf", "export"),
        ("torch", "parity"),
        ("matplotlib", "report"),
        ("polygraphy", "compare"),
    ],
    ids=lambda name: name,
)
def test_a_package_that_is_not_installed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, module: str, extra: str
) -> None:
    def missing(*arguments: object, **options: object) -> None:
        raise ModuleNotFoundError(f"No module named '{module}'", name=f"{module}.inner")

    monkeypatch.setattr(command_line.cli, "main", missing)
    outcome = run(capsys, "build")
    assert outcome.code == 2
    assert f"needs the package '{module}'" in outcome.err
    assert f"pip install 'dspark-export[{extra}]'" in outcome.err
