"""Drafters that draft one token after the other, in bundles: engines, memory, neighbours, and the target's output."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dspark_engines import Bundle, GenerationRequest, Generator, RuntimeOptions, open_bundle
from dspark_engines.backends import DraftOutput, EngineOptions, Engines, get_backend
from dspark_engines.backends.exported import role_caches
from dspark_engines.bundle import Limits
from dspark_engines.errors import BackendError
from dspark_export.bundling import BuildPlan, Silent, build_bundle
from dspark_export.bundling.build import compile_bundle
from dspark_export.checkpoints import open_drafter, open_target
from dspark_export.checks import check_identity, compare_engines
from dspark_export.checks.backends import compare_one
from dspark_export.checks.sampling import compare_sampling
from dspark_export.named_path import NamedPath
from tests.support import chains, tiny
from tests.support.command_line import generate

LIMITS = Limits(context_length=96, prefill_chunk=16, slots=2)
PROMPTS = [[5, 6, 7, 8], [9, 3], list(range(4, 60))]
LENGTHS = {"eagle3": 5, "mtp": 3}
"""What is drafted a round where nobody says otherwise."""


@pytest.fixture(scope="module", params=["fp32", "int8"])
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    root = tmp_path_factory.mktemp("chains")
    target = tiny.write_target(root / "target")
    eagle3 = chains.write_eagle3(root / "eagle3")
    further = (NamedPath("", chains.write_mtp(root / "mtp")),)
    plan = BuildPlan(target, eagle3, root / "bundle", "onnxruntime", LIMITS, precision=request.param, further=further)
    build_bundle(plan, Silent())
    return open_bundle(root / "bundle")


@pytest.fixture(params=LENGTHS)
def bundle(request: pytest.FixtureRequest, whole: Bundle) -> Bundle:
    return whole.with_drafter(request.param)


def step(engines: Engines, slots: list[Any], rows: list[dict[str, Any]], temperature: float = 0.0) -> DraftOutput:
    """One draft step of rows that `row_of` made, each behind `used` pairs."""
    count, length = len(rows), rows[0]["uniforms"].shape[0]
    return engines.draft.step(
        slots,
        np.concatenate([row["features"] for row in rows]),
        np.array([len(row["ids"]) for row in rows]),
        np.array([row["used"] for row in rows]),
        np.array([row["ids"][-1] for row in rows]),
        np.full(count, temperature, np.float32),
        np.stack([row["uniforms"] for row in rows]).reshape(count, length),
        np.concatenate([row["ids"] for row in rows]),
    )


def row_of(bundle: Bundle, features: int, used: int, seed: int) -> dict[str, Any]:
    """So many random pairs of one request."""
    info, random = bundle.manifest.drafter, np.random.default_rng(seed)
    return {
        "features": random.standard_normal((features, info.feature_size), np.float32),
        "ids": random.integers(0, tiny.VOCAB, features),
        "uniforms": random.random(info.block_size, np.float32),
        "used": used,
    }


def test_the_manifest_says_what_drafts(bundle: Bundle) -> None:
    drafter = bundle.manifest.drafter
    assert drafter.called == drafter.method
    assert drafter.block_size == LENGTHS[drafter.method]
    assert (drafter.confidence, drafter.scores) == (False, ["log_probability", "margin"])
    assert drafter.target_layer_ids == ([-1, 1, 2] if drafter.method == "eagle3" else [tiny.LAYERS])
    assert "next_ids" in [tensor.name for tensor in bundle.manifest.graphs["drafter"].inputs]


def test_engines_and_graphs_agree(bundle: Bundle) -> None:
    with get_backend("onnxruntime").open(bundle, EngineOptions(1)) as engines:
        results = [*compare_engines(bundle, engines), *compare_one(bundle, "onnxruntime", engines)]
    assert {"drafter.draft_scores", "drafter.draft_ids"} < {result.what for result in results}
    assert all(result.passed for result in results), results


def test_every_step_works_on_one_buffer(bundle: Bundle) -> None:
    """A cache that goes from node to node inside a step is the slot's own memory at each of them: what a step finds,
    hands on and leaves has one address."""
    with get_backend("onnxruntime").open(bundle, EngineOptions(1)) as engines:
        slot = engines.draft.new_slot()
        step(engines, [slot], [row_of(bundle, 4, 0, 1)])
        program: Any = next(iter(engines.draft._buckets._programs.values()))  # type: ignore[attr-defined]
        names = [value.name for value in program._session.get_outputs()]
        values = program._binding.get_outputs()
        assert len(values) == len(names)
        place = {slot.buffers[cache].data_ptr(): cache for cache in role_caches(bundle, "draft")}
        caches = [value.data_ptr() for value in values if value.data_ptr() in place]
        assert len(caches) == len(place) * bundle.manifest.drafter.block_size
        assert len(caches) == sum("cache" in name for name in names)
        for cache in role_caches(bundle, "draft"):
            assert bool(slot.buffers[cache].numpy()[:, :, : 4 + bundle.manifest.drafter.block_size - 1].any(-1).all())


@pytest.mark.parametrize("features", [1, 2, 5])
def test_drafts_do_not_depend_on_neighbours(bundle: Bundle, features: int) -> None:
    """In int8 not in a single bit, the scores included; in float32 as far as products of other sizes are rounded."""
    tolerance = 0.0 if bundle.manifest.precision == "int8" else 1e-4
    with get_backend("onnxruntime").open(bundle, EngineOptions(1)) as engines:
        for temperature in (0.0, 0.8):
            own, shared, other = (engines.draft.new_slot() for _ in range(3))
            for used, count in ((0, 7), (7, features)):
                mine, theirs = row_of(bundle, count, used, used), row_of(bundle, 9, 9 * (used > 0), 50)
                single = step(engines, [own], [mine], temperature)
                pair = step(engines, [other, shared], [theirs, mine], temperature)
                assert single.draft_ids[0].tolist() == pair.draft_ids[1].tolist()
                scores = np.asarray(single.scores)[0], np.asarray(pair.scores)[1]
                np.testing.assert_allclose(*scores, rtol=tolerance, atol=tolerance)


def test_a_filling_row_changes_nothing_and_the_last_draft_fits(bundle: Bundle) -> None:
    """Behind a full context, read at once or in parts."""
    with get_backend("onnxruntime").open(bundle, EngineOptions(1)) as engines:
        whole_row, ids = row_of(bundle, 96, 0, 4), []
        for cuts in ([0, 96], [0, 40, 95, 96]):
            slot = engines.draft.new_slot()
            for start, end in pairwise(cuts):
                part = {name: whole_row[name][start:end] for name in ("features", "ids")}
                out = step(engines, [slot], [{**whole_row, **part, "used": start}])
            ids.append(out.draft_ids.tolist())
    assert ids[0] == ids[1]


def test_the_output_is_the_target_s(bundle: Bundle) -> None:
    with get_backend("onnxruntime").open(bundle, EngineOptions(1)) as engines:
        report = check_identity(engines, bundle.manifest, PROMPTS, 40, lambda *_: None)
    assert report.passed
    assert not report.differences
    assert max(r.proposed for result in report.results for r in result.rounds) == bundle.manifest.drafter.block_size


def test_sampled_tokens_are_the_target_s(bundle: Bundle) -> None:
    if bundle.manifest.precision == "int8":
        pytest.skip("drawn by the same operators")
    options = RuntimeOptions(speculation="on")
    for result in compare_sampling(bundle, options, [5, 6, 7], 300, lambda *_: None):
        assert result.passed, result


def test_rounds_are_those_of_the_torch_loop(bundle: Bundle) -> None:
    """How much of every block is accepted, too: after the fourth round as after the first."""
    pytest.importorskip("torch").set_num_threads(1)
    from dspark_export import parity
    from dspark_export.parity.check import compare_with_torch

    if bundle.manifest.precision == "int8":
        pytest.skip("the oracle computes in float32")
    root = bundle.path.parent
    target = open_target(root / "target")
    drafter, table = (
        open_drafter(root / bundle.manifest.drafter.method, target.spec),
        target.weights["embed_tokens.weight"],
    )
    modules = (
        parity.TargetModule(target.spec, target.weights),
        parity.ChainModule(drafter.spec, drafter.weights, table, table),
    )
    with get_backend("onnxruntime").open(bundle, EngineOptions(1)) as engines:
        for prompt in PROMPTS:
            result = Generator(engines, bundle.manifest).run(GenerationRequest(prompt, 24))
            tokens, accepted = parity.speculative_greedy(*modules, prompt, 24, {2})
            assert result.token_ids == tokens
            assert [r.accepted for r in result.rounds] == accepted
    comparisons = compare_with_torch(bundle, target, drafter)
    assert {"target.features", "drafter.draft_logits"} < {comparison.what for comparison in comparisons}
    assert all(comparison.passed for comparison in comparisons), comparisons


def test_on_the_command_line(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--prompt=hello", f"--drafter={bundle.manifest.drafter.called}")
    on, off = (generate(capsys, bundle.path, *options, f"--speculation={how}") for how in ("on", "off"))
    assert on["token_ids"] == off["token_ids"]
    assert len(on["accepted_per_position"]) == bundle.manifest.drafter.block_size


@pytest.mark.parametrize("backend", ["onnxruntime-cuda", "tensorrt-rtx", "tensorrt"])
def test_other_backends_refuse_them_by_name(whole: Bundle, backend: str, tmp_path: Path) -> None:
    """Before anything is written: when a bundle is built, and when engines are added to one."""
    if whole.manifest.precision == "int8":
        pytest.skip("these backends refuse int8 first")
    root = whole.path.parent
    plan = BuildPlan(root / "target", root / "mtp", tmp_path / "bundle", backend, LIMITS)
    with pytest.raises(BackendError, match="drafts blocks only, and method 'mtp' drafts one token after the other"):
        build_bundle(plan, Silent())
    assert not (tmp_path / "bundle").exists()
    build_bundle(BuildPlan(root / "target", root / "mtp", tmp_path / "bundle", None, LIMITS), Silent())
    with pytest.raises(BackendError, match="method 'mtp'"):
        compile_bundle(tmp_path / "bundle", backend, Silent(), overwrite=False)
