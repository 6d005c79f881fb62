"""`compile --compare`: backends of a bundle against its exported graphs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dspark_engines.arrays import Floats
from dspark_engines.backends import DraftOutput, EngineOptions, VerifyOutput, get_backend
from dspark_engines.backends.onnxruntime.engines import OrtDraftEngine, OrtVerifyEngine
from dspark_engines.bundle import open_bundle
from dspark_engines.sampling import accept_step
from dspark_engines.sampling.contract import Accepted, AcceptInputs
from tests.support.command_line import edit_json, run

pytest.importorskip("polygraphy", reason="the extra [compare] is not installed")

OUTPUTS = [
    "target.logits",
    "target.features",
    "drafter.draft_ids",
    "drafter.draft_logits",
    "drafter.confidence_logits",
    "accept.accepted",
    "accept.next_ids",
]


def test_engines_agree_with_their_graphs(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = run(capsys, "compile", tiny_bundle, "--compare", "--json")
    assert outcome.code == 0
    assert outcome.json["passed"] is True
    assert outcome.json["skipped"] == {}
    assert [row["output"] for row in outcome.json["outputs"]] == OUTPUTS
    assert all(row["max_error"] < 1e-4 for row in outcome.json["outputs"])
    table = run(capsys, "compile", tiny_bundle, "--compare", "--backend=onnxruntime").out
    assert all(name in table for name in OUTPUTS)


@pytest.mark.parametrize(
    ("engine", "output", "change"),
    [
        (OrtVerifyEngine, "logits", 1.0),
        (OrtVerifyEngine, "features", np.nan),
        (OrtDraftEngine, "confidence_logits", 0.1),
        (OrtDraftEngine, "draft_ids", 1),
    ],
)
def test_what_is_wrong_is_told(
    tiny_bundle: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    engine: type,
    output: str,
    change: float,
) -> None:
    step = engine.step  # type: ignore[attr-defined]

    def wrong(*arguments: object, **named: object) -> VerifyOutput | DraftOutput:
        result = step(*arguments, **named)
        values = getattr(result, output).copy()
        values[-1] += np.asarray(change, values.dtype)
        return result._replace(**{output: values})  # type: ignore[no-any-return]

    monkeypatch.setattr(engine, "step", wrong)
    outcome = run(capsys, "compile", tiny_bundle, "--compare", "--json")
    assert outcome.code == 1
    failed = [row["output"].split(".")[1] for row in outcome.json["outputs"] if not row["passed"]]
    assert failed == [output]


def test_wrong_acceptance_is_reported(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more token than stands, at temperature 0.7 alone."""

    def generous(logits: Floats, inputs: AcceptInputs) -> Accepted:
        accepted, following = accept_step(logits, inputs)
        return Accepted(accepted + (inputs.temperature == np.float32(0.7)), following)

    monkeypatch.setattr("dspark_export.checks.accept.accept_step", generous)
    outcome = run(capsys, "compile", tiny_bundle, "--compare", "--json")
    assert outcome.code == 1
    assert [row["output"] for row in outcome.json["outputs"] if not row["passed"]] == ["accept.accepted"]


def test_a_bundle_without_that_graph_is_compared_without_it(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    (bundle / "onnx" / "accept.onnx").unlink()

    def forget(manifest: dict[str, Any]) -> None:
        del manifest["graphs"]["accept"]
        manifest["files"] = [file for file in manifest["files"] if "accept" not in file["path"]]

    edit_json(bundle / "manifest.json", forget)
    outcome = run(capsys, "compile", bundle, "--compare", "--json")
    assert (outcome.code, [row["output"] for row in outcome.json["outputs"]]) == (0, OUTPUTS[:5])


@pytest.mark.parametrize("name", ["tensorrt-rtx", "onnxruntime-cuda"])
def test_a_backend_that_cannot_run_here_is_skipped(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))

    def add(manifest: dict[str, list[dict[str, object]]]) -> None:
        manifest["backends"].append(manifest["backends"][0] | {"name": name, "version": "0.0"})

    edit_json(bundle / "manifest.json", add)
    outcome = run(capsys, "compile", bundle, "--compare", "--json")
    assert outcome.code == 0
    assert list(outcome.json["skipped"]) == [name]
    assert (
        f"backend '{name}' needs" in outcome.json["skipped"][name] or "compiled with" in outcome.json["skipped"][name]
    )
    assert {row["backend"] for row in outcome.json["outputs"]} == {"onnxruntime"}
    assert run(capsys, "compile", bundle, "--compare", f"--backend={name}").code == 2


@pytest.mark.parametrize(
    ("precision", "noise", "failed"),
    [("bf16", 0.05, []), ("bf16", 0.4, ["drafter.draft_logits"]), ("fp16", 0.05, ["drafter.draft_logits"])],
)
def test_half_precision_has_its_own_tolerance(
    tiny_bundle: Path, tmp_path: Path, precision: str, noise: float, failed: list[str]
) -> None:
    """By line, in shares of its size; a token drawn otherwise, or turned over by rounding, is excused."""
    from dspark_export.checks.backends import compare_one
    from dspark_export.checks.step_comparison import compare_lines

    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))

    def claim(manifest: dict[str, list[dict[str, list[dict[str, object]]]]]) -> None:
        for engine in manifest["backends"][0]["engines"]:
            engine["precision"] = precision

    edit_json(bundle / "manifest.json", claim)
    opened = open_bundle(bundle)

    class Rounded:
        """Draft logits a little off, and with them some tokens."""

        samples = True

        def __init__(self, engine: OrtDraftEngine) -> None:
            self.new_slot, self._engine = engine.new_slot, engine

        def step(self, *arguments: object, **named: object) -> DraftOutput:
            out = self._engine.step(*arguments, **named)  # type: ignore[arg-type]
            lines = np.asarray(out.draft_logits)
            off = noise * lines.std() * np.random.default_rng(0).standard_normal(lines.shape, np.float32)
            return out._replace(draft_logits=lines + off)

    with get_backend("onnxruntime").open(opened, EngineOptions(threads=1)) as engines:
        near = type(engines)(engines.verify, Rounded(engines.draft))  # type: ignore[arg-type]
        errors = {error.what: error for error in compare_one(opened, "onnxruntime", near)}
    assert [error.what for error in errors.values() if not error.passed] == failed
    assert errors["drafter.draft_logits"].max_error > 0

    def test(line: float) -> bool:
        return bool(compare_lines("x", np.full((1, 4), line, np.float32), np.ones((1, 4), np.float32), "float16"))

    assert (test(1.0), test(1.01), test(1.03), test(np.nan)) == (True, True, False, False)
