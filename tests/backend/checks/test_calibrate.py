"""`calibrate` and `report` on a tiny pair: one run, shards, interruptions, what the runtime makes of it, drift."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dspark_calibration import StsCalibration, TraceStore
from dspark_calibration.report import Report
from dspark_calibration.traces import load_rounds
from dspark_engines import GenerationRequest, Runtime, RuntimeOptions, open_bundle
from dspark_engines.backends import EngineOptions
from dspark_engines.measured import STS, load_confidence
from dspark_engines.runtime.round.draft_step import prefix_survival
from dspark_engines.scheduler import ThresholdSpec
from dspark_export.calibrating import tracing
from tests.support import calibrated
from tests.support.calibrated import COUNT, arguments, write_prompts
from tests.support.command_line import run
from tests.support.rounds import contents

Capture = pytest.CaptureFixture[str]
WRITTEN = {"report.html", "report.json", "sts.json", "interchange/sglang_sts.json", "interchange/tensorrt_llm_sts.json"}


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_prompts(tmp_path_factory.mktemp("prompts") / "set.jsonl")


@pytest.fixture(scope="module")
def done(tiny_bundle: Path, prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated and profiled bundle; tests must not change it."""
    from dspark_export.commands.main import main

    bundle = calibrated.copy(tiny_bundle, tmp_path_factory.mktemp("done") / "tiny")
    assert main(["profile", str(bundle), "--context=16", "--samples=3", "--seconds=0.5", "--threads=1"]) == 0
    assert main(arguments(bundle, prompts)) == 0
    return bundle


def read_sts(bundle: Path) -> StsCalibration:
    return StsCalibration.model_validate_json((bundle / STS).read_text())


def test_one_command_leaves_everything(done: Path) -> None:
    made = set(contents(done / "calibration"))
    assert WRITTEN | {"cost_table.json", "interchange/sglang_sps_table.json"} <= made
    assert not [name for name in made if name.endswith(".partial")]
    sts, report = read_sts(done), Report.model_validate_json((done / "calibration/report.json").read_text())
    assert (report.ece.before, report.ece.after) == (sts.ece_before, sts.ece_after)
    assert [p.temperature for p in report.positions] == sts.temperatures
    sglang = json.loads((done / "calibration/interchange/sglang_sts.json").read_text())
    assert sglang["temperatures"] == sts.sts_temperatures
    assert {load.requests for load in report.loads} == {1}
    assert report.verdict in (done / "calibration/report.html").read_text()


def test_traces_are_the_rounds_of_full_verification(done: Path, prompts: Path) -> None:
    from dspark_engines import Generator
    from dspark_engines.backends import get_backend
    from dspark_engines.text import TextCodec

    bundle, store = open_bundle(done), TraceStore.open(done / "calibration/traces")
    lines = [json.loads(line) for line in prompts.read_text().splitlines()]
    with get_backend("onnxruntime").open(bundle, EngineOptions(1)) as engines:
        for index, line in enumerate(lines[:3]):
            ids = TextCodec(bundle).prompt_ids(line["prompt"])
            result, trace = Generator(engines, bundle.manifest).run(GenerationRequest(ids, 12)), store.read(index)
            drafted = [r for r in result.rounds if r.proposed]  # the last token's round has no use for a draft
            assert trace.proposed.tolist() == [r.proposed for r in drafted]
            kept = [min(a, r.produced) for a, r in zip(trace.accepted.tolist(), drafted, strict=True)]
            assert kept == [r.accepted for r in drafted]
            assert trace.context[0] == len(ids)
            assert np.diff(trace.context).tolist() == [a + 1 for a in trace.accepted.tolist()[:-1]]
    assert load_rounds(store).cut > 0  # every answer ends at its length limit


def test_shards_merged_are_one_run_to_the_byte(done: Path, prompts: Path, tmp_path: Path, capsys: Capture) -> None:
    bundle = calibrated.copy(done, tmp_path / "tiny")
    one = contents(bundle / "calibration")
    for name in one:
        if name != "cost_table.json":
            (bundle / "calibration" / name).unlink()
    folders = [str(tmp_path / f"shard{i}") for i in (1, 2, 3)]
    for number, folder in enumerate(folders, 1):
        options = (f"--shard={number}/3", f"--traces={folder}", "--json")
        assert run(capsys, *arguments(bundle, prompts, *options)).json["shard"] == f"{number}/3"
        assert not (bundle / STS).exists()
    merged = run(capsys, "calibrate", bundle, *folders, "--merge", "--bins=2", "--resamples=20", "--json")
    assert merged.code == 0
    assert contents(bundle / "calibration") == one


def test_a_missing_shard_is_named(done: Path, prompts: Path, tmp_path: Path, capsys: Capture) -> None:
    bundle = calibrated.copy(done, tmp_path / "tiny")
    run(capsys, *arguments(bundle, prompts, "--shard=1/2", f"--traces={tmp_path}/one"))
    before = contents(tmp_path)
    outcome = run(capsys, "calibrate", bundle, tmp_path / "one", "--merge")
    assert outcome.code == 2
    assert f"{COUNT // 2} of {COUNT} prompts are in no shard" in outcome.err
    assert contents(tmp_path) == before


def test_an_interrupted_run_goes_on_and_comes_to_the_same(
    done: Path, prompts: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = calibrated.copy(done, tmp_path / "tiny")
    one, traced = contents(bundle / "calibration"), []
    write = TraceStore.write

    def interrupted(store: TraceStore, index: int, trace: Any) -> None:
        if len(traced) == 4:
            raise KeyboardInterrupt
        traced.append(index)
        write(store, index, trace)

    with monkeypatch.context() as patch:
        patch.setattr(TraceStore, "write", interrupted)
        assert run(capsys, *arguments(bundle, prompts, "--overwrite")).code == 2
    assert TraceStore.open(bundle / "calibration/traces").missing() == list(range(4, COUNT))
    traced.clear()
    assert run(capsys, *arguments(bundle, prompts)).code == 0
    assert contents(bundle / "calibration") == one


def test_a_disk_that_fills_up(
    done: Path, prompts: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    savez, calls = np.savez, []

    def full(file: Any, **arrays: Any) -> None:
        calls.append(file)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        savez(file, **arrays)

    monkeypatch.setattr(np, "savez", full)
    outcome = run(capsys, *arguments(done, prompts, "--shard=1/1", f"--traces={tmp_path}/t"))
    assert outcome.code == 2
    assert outcome.err.splitlines()[-2].endswith("the disk is full")
    store = TraceStore.open(tmp_path / "t")
    assert store.missing() == list(range(2, COUNT))
    store.read(0)
    assert run(capsys, *arguments(done, prompts, "--shard=1/1", f"--traces={tmp_path}/t")).code == 0
    assert store.missing() == []


def test_a_drafter_whose_confidences_are_nan(
    done: Path, prompts: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dspark_engines.backends.onnxruntime import engines

    step = engines.OrtDraftEngine.step

    def broken(*arguments: Any, **options: Any) -> Any:
        output = step(*arguments, **options)
        output.confidence_logits.fill(np.nan)
        return output

    monkeypatch.setattr(engines.OrtDraftEngine, "step", broken)
    outcome = run(capsys, *arguments(done, prompts, f"--traces={tmp_path}/t"))
    assert outcome.code == 2
    assert "prompt a/0: the drafter's confidences or logits are NaN" in outcome.err
    assert TraceStore.open(tmp_path / "t").missing() == list(range(COUNT))


def test_the_runtime_applies_the_calibration(done: Path) -> None:
    sts = read_sts(done)
    confidence = load_confidence(open_bundle(done), "onnxruntime")
    assert confidence.trusted
    assert confidence.scaling == sts.scaling
    logits = np.random.default_rng(0).normal(size=(3, sts.block_size)).astype(np.float32)
    by_hand = np.cumprod(1 / (1 + np.exp(-(logits / np.array(sts.temperatures) + np.array(sts.offsets)))), axis=1)
    np.testing.assert_allclose(prefix_survival(logits, confidence.scaling), by_hand, rtol=1e-9, atol=1e-15)
    options = RuntimeOptions(engines=EngineOptions(1), scheduler="threshold")
    with Runtime(open_bundle(done), options) as runtime:
        (thread,) = runtime._threads
        assert thread._target.__self__._runner._rules.scaling == sts.scaling


def proposals(bundle: Path, scheduler: Any) -> list[int]:
    options = RuntimeOptions(engines=EngineOptions(1), scheduler=scheduler, speculation="on")
    with Runtime(open_bundle(bundle), options) as runtime:
        (result,) = runtime.generate([GenerationRequest([5, 6, 7], 20)])
    return [r.proposed for r in result.rounds]


def test_temperatures_change_what_is_verified(done: Path, tmp_path: Path) -> None:
    """A flat calibration puts every survival at 1/2, 1/4, …: a threshold of 0.2 then verifies two tokens."""
    bundle = calibrated.copy(done, tmp_path / "tiny")
    sts = read_sts(bundle)
    flat = {"temperatures": [1e9] * sts.block_size, "offsets": [0.0] * sts.block_size}
    (bundle / STS).write_text(sts.model_copy(update=flat).model_dump_json())
    assert set(proposals(bundle, ThresholdSpec(0.2))[:-2]) == {2}


@pytest.mark.parametrize("content", ["other engines", "{}", "[]", "", "other block"])
def test_a_calibration_that_does_not_fit_is_ignored(done: Path, tmp_path: Path, content: str) -> None:
    bundle = calibrated.copy(done, tmp_path / "tiny")
    sts = read_sts(bundle)
    spoiled = {
        "other engines": sts.model_copy(update={"bundle": "0" * 64}).model_dump_json(),
        "other block": json.dumps(
            {name: v[:-1] if isinstance(v, list) and len(v) == 5 else v for name, v in sts.model_dump().items()}
            | {"block_size": 4}
        ),
    }
    (bundle / STS).write_text(spoiled.get(content, content))
    with pytest.warns(RuntimeWarning, match=r"ignored, whole blocks are verified; run dspark-export calibrate"):
        lengths = proposals(bundle, ThresholdSpec(1.0))
    assert max(lengths) == sts.block_size
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert max(proposals(bundle, "fixed")) == sts.block_size  # does not read confidences: nothing to say


def test_report_is_written_anew_and_the_same(done: Path, tmp_path: Path, capsys: Capture) -> None:
    bundle = calibrated.copy(done, tmp_path / "tiny")
    before = contents(bundle / "calibration")
    (bundle / "calibration/report.html").unlink()
    assert run(capsys, "report", bundle).code == 0
    assert contents(bundle / "calibration") == before
    (bundle / "calibration/cost_table.json").unlink()
    outcome = run(capsys, "report", bundle, "--json")
    assert outcome.json["loads"] == []
    assert "There is no cost table" in " ".join(outcome.json["caveats"])


def test_several_bundles_on_one_page(done: Path, tmp_path: Path, capsys: Capture) -> None:
    page = tmp_path / "page.html"
    outcome = run(capsys, "report", done, done, f"--output={page}", "--json")
    assert outcome.json["comparison"] == str(page)
    assert "2 deployments compared" in page.read_text()


def test_check_tells_drift_from_none(done: Path, prompts: Path, tmp_path: Path, capsys: Capture) -> None:
    new = write_prompts(tmp_path / "new.jsonl", 8, first=100)
    before = contents(done)
    bundle = calibrated.copy(done, tmp_path / "tiny")
    sts = read_sts(bundle)
    wide = [entry.model_copy(update={"low": 0.0, "high": 1.0}) for entry in sts.expected]
    narrow = [entry.model_copy(update={"low": 0.0, "high": 0.0}) for entry in sts.expected]
    above = [entry.model_copy(update={"low": 1.0, "high": 1.0}) for entry in sts.expected]
    for expected, code in ((wide, 0), (narrow, 1), (above, 0)):
        (bundle / STS).write_text(sts.model_copy(update={"expected": expected}).model_dump_json())
        outcome = run(capsys, *arguments(bundle, new, "--check", "--json"))
        assert (outcome.code, outcome.json["drifted"], outcome.json["below"]) == (code, bool(code), expected is above)
        assert outcome.json["prompts"] == 8
    said = run(capsys, *arguments(bundle, new, "--check"))
    assert said.code == 0
    assert "no drift\nthe error is below the interval: no failure" in said.out
    assert contents(done) == before


def test_build_calibrates_where_a_prompt_set_is_named(
    tiny_pair: tuple[Path, Path], tmp_path: Path, capsys: Capture
) -> None:
    target, drafter = tiny_pair
    prompts = write_prompts(tmp_path / "set.jsonl", 40)
    options = ["--context-length=64", "--slots=1", "--max-new-tokens=24", f"--prompts={prompts}", "--json"]
    output = tmp_path / "out"
    built = run(capsys, "build", f"--target={target}", f"--drafter={drafter}", f"--output={output}", *options)
    assert built.code == 0
    assert built.json["verdict"]
    assert {"cost_table.json", *WRITTEN} <= set(contents(output / "calibration"))
    again = [f"--target={target}", f"--drafter={drafter}", f"--output={output}", "--overwrite", "--no-calibrate"]
    assert run(capsys, "build", *again, *options).code == 0
    assert set(contents(output / "calibration")) == {"cost_table.json"}  # measured in seconds, as for every bundle


def test_recorder_copies_what_the_engines_own() -> None:
    from types import SimpleNamespace

    logits = np.ones((1, 2), np.float32)
    recorder = tracing.Recorder(2)
    drafts: Any = SimpleNamespace(states=[SimpleNamespace(used=7)], confidence_logits=logits)
    outcomes: Any = [SimpleNamespace(accepted=1)]
    recorder(drafts, np.array([2]), outcomes)
    logits.fill(np.nan)
    trace = recorder.trace()
    assert trace.confidence_logits.tolist() == [[1.0, 1.0]]
    assert (trace.proposed.tolist(), trace.accepted.tolist(), trace.context.tolist()) == ([2], [1], [7])
    recorder.clear()
    assert recorder.trace().confidence_logits.shape == (0, 2)
