"""`calibrate` of drafters without a confidence head: confidences are estimated, and what follows is as for others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dspark_calibration import StsCalibration, TraceStore
from dspark_calibration.report import Report
from dspark_engines import Bundle, GenerationRequest, Runtime, RuntimeOptions, open_bundle
from dspark_engines.backends import EngineOptions
from dspark_engines.bundle import Limits
from dspark_engines.measured import STS, load_confidence
from dspark_engines.runtime.serving.plan import plan_runtime
from dspark_engines.scheduler import ThresholdSpec
from dspark_export.bundling import BuildPlan, Silent, build_bundle
from tests.support import tiny
from tests.support.calibrated import BINS, write_prompts
from tests.support.command_line import run
from tests.support.rounds import contents

Capture = pytest.CaptureFixture[str]
LIMITS = Limits(context_length=128, prefill_chunk=64, slots=2)
ONE = EngineOptions(1)


@pytest.fixture(scope="module", params=["headless", "ngram"])
def done(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Bundle path and drafter, profiled and calibrated; tests must not change it."""
    from dspark_export.commands.main import main

    root = tmp_path_factory.mktemp(request.param)
    target, output = tiny.write_target(root / "target"), root / "bundle"
    drafter = tiny.write_drafter(root / "drafter", tiny.drafter_spec("vanilla", confidence=False))
    build_bundle(BuildPlan(target, drafter, output, "onnxruntime", LIMITS), Silent())
    prompts = write_prompts(root / "set.jsonl", 16)
    chosen = ["--drafter=ngram"] if request.param == "ngram" else []
    profile = ["--context=16", "--samples=3", "--seconds=0", "--threads=1"]
    assert main(["profile", str(output), *profile, *chosen]) == 0
    settings = [f"--bins={BINS}", "--resamples=20", "--max-new-tokens=32", "--threads=1"]
    assert main(["calibrate", str(output), f"--prompts={prompts}", *settings, *chosen]) == 0
    return open_bundle(output).with_drafter(request.param) if chosen else open_bundle(output)


def sts_of(bundle: Bundle) -> StsCalibration:
    return StsCalibration.model_validate_json(bundle.file(STS).read_text())


def test_everything_is_there_and_says_what_it_is(done: Bundle) -> None:
    names = done.manifest.drafter.scores
    sts = sts_of(done)
    assert sts.estimator is not None
    assert (sts.estimator.scores, len(sts.estimator.biases)) == (names, tiny.BLOCK)
    report = Report.model_validate_json(done.file("calibration/report.json").read_text())
    said = " ".join(report.caveats)
    assert f"estimated from {names[0]} and {names[1]} by position" in said
    assert ("nothing to propose" in said) == (done.manifest.drafter.method == "ngram")
    assert "estimated from" in done.file("calibration/report.html").read_text()


def test_traces_hold_scores_and_report_comes_out_again_the_same(done: Bundle, capsys: Capture) -> None:
    store = TraceStore.open(done.file("calibration/traces"))
    assert store.header.scores == done.manifest.drafter.scores
    assert all(store.read(index).scores is not None for index in range(len(store.header.prompts)))
    before = contents(done.path / "calibration")
    chosen = ["--drafter=ngram"] if done.manifest.drafter.method == "ngram" else []
    assert run(capsys, "report", done.path, *chosen).code == 0
    assert contents(done.path / "calibration") == before


def test_the_runtime_begins_with_what_was_fitted(done: Bundle) -> None:
    confidence, sts = load_confidence(done, "onnxruntime"), sts_of(done)
    assert (confidence.trusted, confidence.estimator) == (True, sts.estimator)
    assert confidence.prior is not None
    for scheduler in ("threshold", "fixed"):
        options = RuntimeOptions(engines=ONE, scheduler=scheduler, speculation="on")
        with Runtime(done, options) as runtime:
            estimator = runtime._threads[0]._target.__self__._runner._rules.estimator  # type: ignore[attr-defined]
            assert (estimator is None) == (scheduler == "fixed")  # it reads no confidence: nothing to estimate
            if estimator is not None:
                assert estimator.parameters.tolist() == sts.estimator.parameters.tolist()  # type: ignore[union-attr]
                runtime.generate([GenerationRequest([5, 6, 7, 5, 6, 7], 40)])
                assert estimator.parameters.tolist() != sts.estimator.parameters.tolist()  # type: ignore[union-attr]


@pytest.mark.parametrize("scheduler", ["threshold", "algorithm1", "async"])
def test_the_output_is_the_target_s(done: Bundle, scheduler: str) -> None:
    requests = [GenerationRequest([5, 6, 7] * 4, 30), GenerationRequest([9, 10], 30), GenerationRequest([20], 30)]
    found = []
    for speculation in ("off", "on"):
        with Runtime(done, RuntimeOptions(engines=ONE, scheduler=scheduler, speculation=speculation)) as runtime:  # type: ignore[arg-type]
            found.append([result.token_ids for result in runtime.generate(requests)])
    assert found[0] == found[1]


def test_the_default_follows_what_was_measured(done: Bundle) -> None:
    plan = plan_runtime(done, RuntimeOptions(engines=ONE))
    assert "times plain decoding expected" in plan.reason
    assert not plan.speculating or isinstance(plan.scheduler, ThresholdSpec)


def test_drift_is_checked(done: Bundle, tmp_path: Path, capsys: Capture) -> None:
    new = write_prompts(tmp_path / "new.jsonl", 12, first=100)
    chosen = ["--drafter=ngram"] if done.manifest.drafter.method == "ngram" else []
    outcome = run(capsys, "calibrate", done.path, f"--prompts={new}", "--check", "--threads=1", "--json", *chosen)
    assert outcome.code in (0, 1), outcome.err
    assert 0.0 <= outcome.json["ece"] <= 1.0


def test_a_calibration_of_another_kind_is_ignored(done: Bundle) -> None:
    bundle = Bundle(done.path, done.manifest.model_copy(deep=True), done.whole)
    other = bundle.manifest.drafter.model_copy(update={"scores": ["something"]})
    bundle = Bundle(done.path, bundle.manifest.model_copy(update={"drafter": other}), done.whole)
    with pytest.warns(RuntimeWarning, match="is for another kind of confidence: ignored"):
        assert load_confidence(bundle, "onnxruntime").trusted is False
