"""`dspark-export check`: what passes, what fails, and what shows nothing about speculation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dspark_calibration import StsCalibration
from dspark_calibration.sts.file import EceInterval
from dspark_engines.backends.onnxruntime import engines
from dspark_engines.bundle import engine_identity, open_bundle
from dspark_engines.measured import save_sts
from tests.support import tiny
from tests.support.command_line import Outcome, run

Capture = pytest.CaptureFixture[str]
FEW = ("--limit=2", "--max-new-tokens=12", "--threads=1")
MORE = ("--limit=2", "--max-new-tokens=90", "--threads=1")


def flat(outcome: Outcome) -> str:
    """Standard output without the table's borders and line breaks."""
    return " ".join(outcome.out.replace("│", " ").split())


def spoil(patch: pytest.MonkeyPatch, engine: Any, change: Callable[[Any], Any]) -> None:
    """Every step's output goes through `change`."""
    step = engine.step
    patch.setattr(engine, "step", lambda self, *args, **kwargs: change(step(self, *args, **kwargs)))


def test_accepted_drafts_and_equal_outputs_pass(scripted_bundle: Path, capsys: Capture) -> None:
    done = run(capsys, "check", scripted_bundle, *FEW)
    assert (done.code, done.out.splitlines()[-1]) == (0, "the bundle holds")
    assert "not judged" in flat(done)
    report = run(capsys, "check", scripted_bundle, *FEW, "--json").json
    assert (report["outcome"], report["passed"], report["reason"]) == ("passed", True, "")
    assert report["identity"]["accepted"] == report["identity"]["drafted"] > 10
    assert report["identity"]["accepted_length"] > 3
    assert report["acceptance"]["limit"] is None


@pytest.mark.parametrize("as_json", [False, True], ids=["table", "json"])
def test_nothing_accepted_is_inconclusive(tiny_bundle: Path, capsys: Capture, as_json: bool) -> None:
    done = run(capsys, "check", tiny_bundle, "--limit=1", "--max-new-tokens=8", *["--json"] * as_json)
    assert done.code == 2
    if as_json:
        report = done.json
        assert (report["outcome"], report["passed"], report["identity"]["accepted"]) == ("inconclusive", False, 0)
        assert report["identity"]["differences"] == []
        assert "drafted tokens was accepted" in report["reason"]
        assert report["hint"]
    else:
        assert done.out.splitlines()[-1] == "INCONCLUSIVE"
        assert "drafted tokens was accepted" in flat(done)
        assert "hint: " in done.out


@pytest.mark.parametrize("steps", [0, 4, 6], ids=["at once", "behind the comparisons", "later"])
def test_a_drafter_that_dies_is_inconclusive(
    scripted_bundle: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    calls = iter(range(1000))

    def die(output: Any) -> Any:
        if next(calls) >= steps:
            raise RuntimeError("the device is gone")
        return output

    spoil(monkeypatch, engines.OrtDraftEngine, die)
    with pytest.warns(RuntimeWarning, match="draft engine failed"):
        done = run(capsys, "check", scripted_bundle, *FEW, "--json")
    assert (done.code, done.json["outcome"]) == (2, "inconclusive")
    assert "RuntimeError: the device is gone" in done.json["reason"]
    assert done.json["identity"]["differences"] == []


def test_a_drafter_with_nan_is_inconclusive_or_fails(
    scripted_bundle: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its outputs differ from the exported graph's here; where the graph has the NaN too, the verdict stays open."""
    nan = np.float32(np.nan)
    spoil(monkeypatch, engines.OrtDraftEngine, lambda o: o._replace(confidence_logits=o.confidence_logits * nan))
    with pytest.warns(RuntimeWarning, match="NaN"):
        done = run(capsys, "check", scripted_bundle, *FEW, "--json")
    assert (done.code, done.json["outcome"]) == (1, "failed")
    monkeypatch.setattr("dspark_export.commands.check.compare_engines", lambda *_, **__: [])
    with pytest.warns(RuntimeWarning, match="NaN"):
        done = run(capsys, "check", scripted_bundle, *FEW, "--json")
    assert (done.code, done.json["outcome"]) == (2, "inconclusive")
    assert "confidences or logits are NaN" in done.json["reason"]


def test_nothing_drafted_is_inconclusive(scripted_bundle: Path, capsys: Capture) -> None:
    done = run(capsys, "check", scripted_bundle, "--limit=2", "--max-new-tokens=1", "--json")
    assert (done.code, done.json["outcome"]) == (2, "inconclusive")
    assert "nothing was drafted" in done.json["reason"]
    assert "--max-new-tokens" in done.json["hint"]


def test_a_difference_is_a_failure_and_not_inconclusive(
    tiny_bundle: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dspark_export.checks.identity.first_difference", lambda a, b: 0)
    monkeypatch.setattr("dspark_export.checks.identity.top_gap", lambda *_: 1.0)
    done = run(capsys, "check", tiny_bundle, "--limit=1", "--max-new-tokens=8", "--json")
    assert (done.code, done.json["outcome"], done.json["passed"]) == (1, "failed", False)


def test_a_target_with_nan_fails(scripted_bundle: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, engines.OrtVerifyEngine, lambda o: o._replace(logits=o.logits * np.float32(np.nan)))
    done = run(capsys, "check", scripted_bundle, *FEW)
    assert done.code == 1
    assert "prompt 0: the target's logits are NaN or infinite at position" in flat(done)
    assert "Traceback" not in done.err
    report = run(capsys, "check", scripted_bundle, *FEW, "--json").out.splitlines()[-1]
    assert json.loads(report, parse_constant=pytest.fail)["outcome"] == "failed"


@pytest.mark.parametrize(("least", "code"), [("1.5", 0), ("6", 1)])
def test_the_accepted_length_that_was_asked_for(scripted_bundle: Path, capsys: Capture, least: str, code: int) -> None:
    done = run(capsys, "check", scripted_bundle, *FEW, f"--min-accepted-length={least}", "--json")
    acceptance = done.json["acceptance"]
    assert (done.code, acceptance["passed"], acceptance["limit"]) == (code, code == 0, float(least))
    assert acceptance["measured"] == done.json["identity"]["accepted_length"]
    shown = run(capsys, "check", scripted_bundle, *FEW, f"--min-accepted-length={least}")
    assert f"{acceptance['measured']:.2f}, at least {float(least):.2f} by --min-accepted-length" in flat(shown)
    assert ("the accepted length is too low" in flat(shown)) is (code == 1)


def test_too_little_is_a_failure_also_where_nothing_was_accepted(tiny_bundle: Path, capsys: Capture) -> None:
    done = run(capsys, "check", tiny_bundle, "--limit=1", "--max-new-tokens=8", "--min-accepted-length=1.2", "--json")
    assert (done.code, done.json["outcome"]) == (1, "failed")


@pytest.fixture
def calibrated(scripted_bundle: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy with a calibration that saw so much accepted."""

    def make(survival: list[float], engine: str = "") -> Path:
        path = Path(shutil.copytree(scripted_bundle, tmp_path / "bundle"))
        bundle, ones = open_bundle(path), [1.0] * tiny.BLOCK
        sts = StsCalibration(
            bundle=engine or engine_identity(bundle.manifest, "onnxruntime"),
            backend="onnxruntime",
            block_size=tiny.BLOCK,
            temperatures=ones,
            offsets=[0.0] * tiny.BLOCK,
            sts_temperatures=ones,
            low=ones,
            high=ones,
            bins=2,
            fit_rounds=100,
            validation_rounds=100,
            ece_before=0.1,
            ece_after=0.1,
            expected=[EceInterval(rounds=100, low=0.0, high=0.2)],
            survival=survival,
            spread=0.3,
            prompts_sha256="0" * 64,
            max_new_tokens=12,
            temperature=0.0,
            seed=0,
        )
        save_sts(sts, bundle)
        return path

    return make


def test_what_calibration_saw_is_met(calibrated: Callable[..., Path], capsys: Capture) -> None:
    done = run(capsys, "check", calibrated([0.9, 0.8, 0.7, 0.6, 0.5]), *MORE, "--json")
    assert done.code == 0
    acceptance = done.json["acceptance"]
    assert acceptance["expected"] == pytest.approx(4.5)
    assert 1 < acceptance["limit"] < 4.5 < acceptance["measured"] == 6.0


def test_much_less_than_calibration_saw_fails_with_both_figures(
    calibrated: Callable[..., Path], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drafter that lost its way: every draft is another token than the graph's, which parity on few steps misses."""
    wrong = (1 + np.arange(tiny.BLOCK)) % 2  # the first is wrong
    spoil(monkeypatch, engines.OrtDraftEngine, lambda o: o._replace(draft_ids=(o.draft_ids + wrong) % tiny.VOCAB))
    monkeypatch.setattr("dspark_export.commands.check.compare_engines", lambda *_, **__: [])
    path = calibrated([0.9, 0.8, 0.7, 0.6, 0.5])
    done = run(capsys, "check", path, *MORE, "--json")
    assert (done.code, done.json["outcome"]) == (1, "failed")
    acceptance = done.json["acceptance"]
    assert f"{acceptance['measured']:.2f}, at least {acceptance['limit']:.2f} by calibration" in done.json["reason"]
    assert "4.50" in done.json["reason"]


def test_a_calibration_of_other_engines_says_nothing(calibrated: Callable[..., Path], capsys: Capture) -> None:
    done = run(capsys, "check", calibrated([1.0] * tiny.BLOCK, engine="1" * 64), *FEW, "--json")
    assert (done.code, done.json["acceptance"]["limit"]) == (0, None)
    assert "other engines" in done.json["acceptance"]["reason"]


def test_json_stays_one_line(scripted_bundle: Path, capsys: Capture) -> None:
    lines = run(capsys, "check", scripted_bundle, *FEW, "--json").out.splitlines()
    assert json.loads(lines[-1])["passed"] is True
