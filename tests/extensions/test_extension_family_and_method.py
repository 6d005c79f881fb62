"""Extension by a family of targets and by a method of drafting: each a file, registered, built and run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dspark_engines import Bundle, GenerationRequest, GenerationResult, Generator, open_bundle
from dspark_engines.backends import EngineOptions, get_backend
from dspark_engines.errors import BackendError
from dspark_export.bundling import Silent, compile_bundle
from dspark_export.checkpoints import open_drafter, open_target
from dspark_export.checkpoints.dialects import register_drafter_dialect
from dspark_export.checkpoints.dialects import registry as dialects
from dspark_export.checkpoints.seams import family, method, register_family, register_method
from dspark_export.checks import compare_engines
from dspark_export.parity.check import compare_with_torch
from tests.extensions import scaled_family, shy_method
from tests.support import tiny
from tests.support.command_line import run
from tests.support.lowered import lowered_bundle

LIMITS = ("--context-length", "96", "--prefill-chunk", "16", "--slots", "1")
REQUEST = GenerationRequest([5, 6, 7, 8], 24)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All of it, for one test."""
    monkeypatch.setattr(family, "FAMILIES", dict(family.FAMILIES))
    monkeypatch.setattr(method, "METHODS", dict(method.METHODS))
    known = dict(dialects.DRAFTERS)
    for name, place in scaled_family.FAMILIES.items():
        register_family(name, place)
    register_method("shy", shy_method.METHOD)
    yield
    dialects.DRAFTERS.clear()
    dialects.DRAFTERS.update(known)


def built(capsys: pytest.CaptureFixture[str], target: Path, drafter: Path, output: Path, *more: str) -> Bundle:
    outcome = run(capsys, "build", "--target", target, "--drafter", drafter, "--output", output, *LIMITS, *more)
    assert outcome.code == 0, outcome.err
    return open_bundle(output)


def generated(bundle: Bundle) -> GenerationResult:
    with get_backend("onnxruntime").open(bundle, EngineOptions(1)) as engines:
        return Generator(engines, bundle.manifest).run(REQUEST)


@pytest.mark.parametrize(("name", "precision"), [("Scaled", "fp32"), ("Scaled", "int8"), ("Capped", "fp32")])
def test_extension_by_a_family_builds_and_is_what_its_oracle_says(
    tmp_path: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str], name: str, precision: str
) -> None:
    target, drafter = tiny.write_target(tmp_path / "target"), tiny.write_drafter(tmp_path / "drafter")
    tiny.edit_config(target, architectures=[f"{name}LlamaForCausalLM"])
    bundle = built(capsys, target, drafter, tmp_path / "bundle", "--precision", precision)
    assert bundle.manifest.target.architecture == f"{name.lower()}-llama"
    assert generated(bundle).token_ids != generated(open_bundle(tiny_bundle)).token_ids
    if precision == "fp32":
        opened = open_target(target)
        compared = compare_with_torch(bundle, opened, open_drafter(drafter, opened.spec))
        assert {c.what for c in compared} >= {"target.logits", "target.features", "drafter.draft_ids"}
        assert all(c.passed for c in compared)


def test_extension_by_a_family_goes_as_far_as_gpu_backends_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Windows are in the mask of padded steps; without masks, or with bounded scores, they are refused by name."""
    drafter, bundles = tiny.write_drafter(tmp_path / "drafter"), {}
    for name in ("Scaled", "Capped"):
        target = tiny.write_target(tmp_path / name)
        tiny.edit_config(target, architectures=[f"{name}LlamaForCausalLM"])
        bundles[name] = built(capsys, target, drafter, tmp_path / f"{name}.bundle")
    results = compare_engines(bundles["Scaled"], lowered_bundle(bundles["Scaled"], tmp_path))
    assert all(result.passed for result in results), results
    with pytest.raises(BackendError, match=r"see 5 tokens only, which backend 'onnxruntime-cuda' cannot"):
        compile_bundle(bundles["Scaled"].path, "onnxruntime-cuda", Silent(), overwrite=False)
    with pytest.raises(BackendError, match=r"softcap 4\), which GPU backends cannot"):
        lowered_bundle(bundles["Capped"], tmp_path)


def test_extension_by_a_method_builds_and_drafts_its_way(
    tmp_path: Path, tiny_pair: tuple[Path, Path], tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "shy"
    folder.mkdir()
    shy_method.ShyDialect().write(open_drafter(tiny_pair[1], open_target(tiny_pair[0]).spec), folder)
    register_drafter_dialect("shy", shy_method.DIALECT)
    bundle = built(capsys, tiny_pair[0], folder, tmp_path / "bundle")
    info = bundle.manifest.drafter
    assert (info.method, info.method_facts["less"], info.method_facts["markov_kind"]) == ("shy", 5.0, "vanilla")
    assert generated(bundle).token_ids == generated(open_bundle(tiny_bundle)).token_ids
    np.testing.assert_allclose(confidences(bundle), confidences(open_bundle(tiny_bundle)) - shy_method.LESS, atol=1e-5)


def confidences(bundle: Bundle) -> np.ndarray:
    """Of one block behind nothing."""
    width = bundle.manifest.drafter.feature_size
    with get_backend("onnxruntime").open(bundle, EngineOptions(1)) as engines:
        nothing, one = np.zeros((1, width), np.float32), np.ones(1, np.int64)
        temperature, uniforms = np.zeros(1, np.float32), np.zeros((1, 5), np.float32)
        slot = engines.draft.new_slot()
        drafted = engines.draft.step([slot], nothing, one, 0 * one, 7 * one, temperature, uniforms)
        return np.array(drafted.confidence_logits)


def test_a_bundle_of_an_older_version_drafts_with_dspark(tiny_bundle: Path, tmp_path: Path) -> None:
    """It does not say how it drafts."""
    copy = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["drafter"]["method"], manifest["drafter"]["method_facts"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert open_bundle(copy).manifest.drafter.method == "dspark"
