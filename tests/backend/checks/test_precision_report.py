"""The report's limits, the command's verdict, and what it needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dspark_engines import Bundle, open_bundle
from dspark_engines.bundle import Limits
from dspark_export.bundling import BuildPlan, Silent, build_bundle
from dspark_export.checks.precision import report as reports
from dspark_export.checks.precision.divergence import Divergence
from dspark_export.checks.precision.layer_errors import LayerError, layer_errors
from dspark_export.checks.precision.report import PrecisionReport
from tests.support import tiny
from tests.support.command_line import run
from tests.support.precision import Pair


def report_with(kl: float, top1: float) -> PrecisionReport:
    layers = [LayerError(f"target.{n}", 1, False, 0.0, 0.1, damage) for n, damage in enumerate((1, 5, 0, 3, 1))]
    return PrecisionReport(Divergence(9, kl, 0, 0, top1, 1, 1), {}, {"target": layers, "drafter": []})


@pytest.mark.parametrize(
    ("kl", "top1", "passed"),
    [
        (0.02, 0.95, True),
        (0.0201, 1.0, False),
        (0.0, 0.9499, False),
        (float("nan"), 1, False),
        (0, float("nan"), False),
    ],
)
def test_the_limits(kl: float, top1: float, passed: bool) -> None:
    report = report_with(kl, top1)
    assert report.passed is passed
    assert report.keep_fp32 == ([] if passed else [("target.1", 0.5), ("target.3", 0.3)])


def verify(capsys: pytest.CaptureFixture[str], bundle: Bundle, *options: str) -> Any:
    return run(capsys, "check", bundle.path, "--precision-report", "--threads=1", "--max-new-tokens=8", *options)


def test_the_command_needs_no_more_than_the_bundle(int8: Bundle, tiny_pair: Pair, capsys, monkeypatch) -> None:
    folders = []
    monkeypatch.setattr(
        reports, "layer_errors", lambda exact, *rest: folders.append(exact) or layer_errors(exact, *rest)
    )
    before = sorted(int8.path.rglob("*"))
    done = verify(capsys, int8, "--json")
    assert done.code == (0 if done.json["passed"] else 1)
    assert done.json.keys() == {
        "reference",
        "passed",
        "limits",
        "divergence",
        "accepted_length",
        "layers",
        "keep_fp32",
    }
    assert done.json["reference"] == {"target": str(tiny_pair[0]), "drafter": str(tiny_pair[1])}
    assert done.json["divergence"].keys() == set(Divergence._fields)
    assert done.json["accepted_length"].keys() == {"fp32", "int8_target_fp32_drafter", "int8"}
    assert all(1 <= value <= tiny.BLOCK + 1 for value in done.json["accepted_length"].values())
    assert done.json["layers"]["target"][0].keys() == set(LayerError._fields)
    assert len(done.json["layers"]["drafter"]) == 12
    assert sorted(int8.path.rglob("*")) == before
    assert len(folders) == 1
    assert not folders[0].exists(), "the float32 pair is left behind"


def test_the_command_names_layers_when_a_limit_is_missed(int8: Bundle, capsys, monkeypatch) -> None:
    monkeypatch.setattr("dspark_export.checks.precision.report.LARGEST_KL", 0.0)
    done = verify(capsys, int8, "--limit=1")
    assert done.code == 1
    assert "int8 does NOT hold" in done.out
    assert "--keep-fp32 target.layers." in done.out
    assert "target.layers.3.mlp.down_proj" in done.out.split("end to end")[0]


def test_checkpoints_given_by_hand_and_texts_that_do_not_fit(
    int8: Bundle, tiny_pair: Pair, tmp_path: Path, capsys
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": "x" * n}) + "\n" for n in (3, 500)))
    target, drafter = (f"--{name}={path}" for name, path in zip(("target", "drafter"), tiny_pair, strict=True))
    done = verify(capsys, int8, "--json", f"--prompts={prompts}", target, drafter)
    assert done.code in (0, 1)
    assert 96 < done.json["divergence"]["tokens"] < 2 * 96


@pytest.mark.slow
def test_the_real_pair(smollm2_bundle: Path, tmp_path: Path, capsys) -> None:
    """The checkpoints as they are built from for the other tests of the real pair."""
    manifest = open_bundle(smollm2_bundle).manifest
    root = Path(__file__).resolve().parents[3]
    target, drafter = smollm2_bundle.parent / "models" / manifest.target.name, root / "examples" / "smollm2" / "drafter"
    if not target.exists():
        pytest.skip(f"{target} is not there")
    limits = Limits(context_length=512, prefill_chunk=256, slots=1)
    output = tmp_path / "int8"
    build_bundle(BuildPlan(target, drafter, output, "onnxruntime", limits, precision="int8"), Silent())
    prompts = root / "calibration" / "prompts" / "evaluation.jsonl"
    done = run(capsys, "check", output, "--precision-report", f"--prompts={prompts}", "--limit=16", "--json")
    assert done.code == 0, done.json
    assert done.json["divergence"]["tokens"] > 500
    accepted = done.json["accepted_length"]
    assert accepted["int8"] > 0.95 * accepted["int8_target_fp32_drafter"]  # what integers cost the drafter
    assert accepted["int8"] > 0.8 * accepted["fp32"]  # of other answers: eight prompts are few to compare them by
    assert max(layer["output_error"] for layers in done.json["layers"].values() for layer in layers) < 0.1
