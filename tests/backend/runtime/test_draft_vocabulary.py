"""A drafter cut down to a part of the vocabulary: the output stays, greedy and sampled, in every form."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dspark_engines import Bundle, GenerationRequest, Runtime, RuntimeOptions, SamplingParams, open_bundle
from dspark_engines.backends import EngineOptions, Engines, get_backend
from dspark_engines.backends.onnxruntime.compile import compile_graph
from dspark_engines.bundle import Limits, load_vocabulary
from dspark_engines.errors import BundleError
from dspark_engines.sampling.contract import ReducedLogits
from dspark_export.bundling import BuildPlan, Silent, build_bundle
from dspark_export.checkpoints import reduction
from dspark_export.checks import check_identity, compare_engines
from tests.support import tiny
from tests.support.command_line import run
from tests.support.lowered import lowered_bundle

KEPT = tuple(range(1, tiny.VOCAB, 3))
LIMITS = Limits(context_length=96, prefill_chunk=16, slots=2)
PROMPTS = [[5, 6, 7, 8], [9, 3], [100, 101, 102]]


@pytest.fixture(scope="module", autouse=True)
def _small() -> None:
    """The tiny target has fewer tokens than any draft vocabulary."""
    patch = pytest.MonkeyPatch()
    patch.setattr(reduction, "SMALLEST", 8)
    yield
    patch.undo()


@pytest.fixture(scope="module", params=["fp32", "int8"])
def bundle(
    request: pytest.FixtureRequest, tiny_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    path = tmp_path_factory.mktemp("reduced") / "bundle"
    plan = BuildPlan(
        *tiny_pair, path, "onnxruntime", LIMITS, precision=request.param, draft_vocabulary=KEPT, coverage=0.5
    )
    build_bundle(plan, Silent())
    return open_bundle(path)


def opened(bundle: Bundle) -> Engines:
    return get_backend("onnxruntime").open(bundle, EngineOptions(1))  # type: ignore[return-value]


def test_compiling_says_nothing(bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is left of the draft logits' layout is of a known type; onnx-ir would warn about it five times."""
    compile_graph(bundle.path / "onnx" / "drafter.onnx", tmp_path / "draft.onnx", slots=2)
    assert not caplog.records


def test_the_manifest_says_so(bundle: Bundle) -> None:
    info = bundle.manifest.drafter.draft_vocabulary
    assert info is not None
    assert (info.size, info.own, info.coverage) == (len(KEPT), False, 0.5)
    ids, size = load_vocabulary(bundle)
    assert ids is not None
    assert (tuple(ids.tolist()), size) == (KEPT, tiny.VOCAB)


def test_engines_and_graphs_agree_and_draft_nothing_else(bundle: Bundle, tmp_path: Path) -> None:
    with opened(bundle) as engines:  # type: ignore[attr-defined]
        results = compare_engines(bundle, engines)
        assert all(result.passed for result in results), results
        assert any(result.what == "drafter.draft_logits" for result in results)
        report = check_identity(engines, bundle.manifest, PROMPTS, 24, lambda *_: None)
    assert report.passed
    if bundle.manifest.precision == "fp32":  # the form that GPU backends get
        results = compare_engines(bundle, lowered_bundle(bundle, tmp_path))
        assert all(result.passed for result in results), results


def test_what_is_not_drafted_has_no_probability(bundle: Bundle) -> None:
    with opened(bundle) as engines:  # type: ignore[attr-defined]
        slot, width = engines.draft.new_slot(), bundle.manifest.drafter.feature_size
        features, one = np.ones((1, width), np.float32), np.ones(1, np.int64)
        uniforms = np.full((1, tiny.BLOCK), 0.5, np.float32)
        out = engines.draft.step([slot], features, one, 0 * one, 7 * one, np.ones(1, np.float32), uniforms)
    assert isinstance(out.draft_logits, ReducedLogits)
    assert set(out.draft_ids.ravel().tolist()) <= set(KEPT)
    wide = np.asarray(out.draft_logits)
    assert wide.shape == (1, tiny.BLOCK, tiny.VOCAB)
    assert np.isfinite(wide[0, 0]).nonzero()[0].tolist() == list(KEPT)


def test_sampled_output_does_not_depend_on_company(bundle: Bundle) -> None:
    requests = [
        GenerationRequest(prompt, 16, sampling=SamplingParams(0.9 if n != 1 else 0.0, seed=n))
        for n, prompt in enumerate(PROMPTS)
    ]
    found = []
    for slots in (1, 2):
        options = RuntimeOptions(engines=EngineOptions(1), max_batch=slots, speculation="on", pipeline="off")
        with Runtime(bundle, options) as runtime:
            found.append([result.token_ids for result in runtime.generate(requests)])
    if bundle.manifest.precision == "int8":  # exact: rows do not depend on what they come with
        assert found[0] == found[1]
    assert found[0][1] == found[1][1]


def test_the_audits_find_nothing(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """Among them: draws from the speculative and from the plain distribution."""
    outcome = run(capsys, "check", bundle.path, "--audit", "--json", "--max-new-tokens", "16")
    assert outcome.json["audit"]["pair"], outcome.out
    assert all(entry["passed"] for entry in outcome.json["audit"]["pair"]), outcome.json["audit"]


def test_a_damaged_list_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    import shutil

    copy = open_bundle(Path(shutil.copytree(bundle.path, tmp_path / "bundle")))
    path = copy.file("onnx/draft_vocabulary.npy")
    np.save(path, np.array(KEPT[::-1]))
    with pytest.raises(BundleError, match=f"not {len(KEPT)} rising ids below {tiny.VOCAB}"):
        load_vocabulary(copy)
    path.write_bytes(b"nothing")
    with pytest.raises(BundleError, match="not readable"):
        load_vocabulary(copy)


def test_checked_against_torch(
    bundle: Bundle, tiny_pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    if bundle.manifest.precision == "int8":
        pytest.skip("torch has no int8 form of it")
    pytest.importorskip("torch")
    target, drafter = tiny_pair
    outcome = run(capsys, "check", bundle.path, "--target", target, "--drafter", drafter, "--json")
    rows = {row["what"]: row["passed"] for row in outcome.json["parity"]}
    assert rows["torch: drafter.draft_logits"], json.dumps(rows)
    assert all(rows.values()), rows
