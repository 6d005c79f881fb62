"""Drafters as the speculators library trains them, in bundles: the output stays the target's.

Their anchor predicts nothing: a block of B positions drafts B - 1 tokens. Some have layers that slide.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dspark_engines import Bundle, GenerationRequest, Generator, open_bundle
from dspark_engines.backends import EngineOptions, get_backend
from dspark_engines.backends.onnxruntime_cuda.lowering import lower_for_cuda
from dspark_engines.bundle import Limits
from dspark_engines.errors import BackendError
from dspark_export.bundling import BuildPlan, Silent, build_bundle
from dspark_export.checkpoints import open_drafter, open_target
from dspark_export.checkpoints.expected import drafter_tensors
from dspark_export.checkpoints.spec import BlockMask
from dspark_export.checks import check_identity, compare_engines
from dspark_export.graphs import build_drafter_graph, save_graph
from tests.support import scripted, tiny
from tests.support.command_line import generate
from tests.support.lowered import lowered_bundle

LIMITS = Limits(context_length=96, prefill_chunk=16, slots=2)
PROMPTS = [[5, 6, 7, 8], [9, 3], [100, 101, 102], list(range(4, 60))]
SPECS = {
    "dspark": tiny.drafter_spec("gated"),
    "dflash": tiny.drafter_spec("none", confidence=False),
    "sliding": tiny.with_windows(tiny.drafter_spec(), 6, 0),
}
DRAFTED = tiny.BLOCK - 1


@pytest.fixture(scope="module", params=[(kind, precision) for kind in SPECS for precision in ("fp32", "int8")])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    (kind, precision), root = request.param, tmp_path_factory.mktemp("given")
    target = tiny.write_target(root / "target")
    drafter = tiny.write_drafter(root / "drafter", replace(SPECS[kind], anchor="given"))
    plan = BuildPlan(target, drafter, root / "bundle", "onnxruntime", LIMITS, precision=precision)
    build_bundle(plan, Silent())
    return open_bundle(root / "bundle")


def test_the_manifest_tells_drafts_from_positions(bundle: Bundle) -> None:
    drafter = bundle.manifest.drafter
    assert (drafter.anchor, drafter.block_size, drafter.block_width) == ("given", DRAFTED, tiny.BLOCK)
    shapes = {tensor.name: tensor.shape for tensor in bundle.manifest.graphs["drafter"].outputs}
    assert shapes["draft_ids"] == ["R", DRAFTED]


def test_engines_and_graphs_agree(bundle: Bundle, tmp_path: Path) -> None:
    with get_backend("onnxruntime").open(bundle, EngineOptions(1)) as engines:
        results = compare_engines(bundle, engines)
    if bundle.manifest.precision == "fp32":  # the form that GPU backends get
        results += compare_engines(bundle, lowered_bundle(bundle, tmp_path))
    assert all(result.passed for result in results), results


@pytest.mark.parametrize(
    ("windows", "mask", "said"),
    [
        ((6, 0), "causal_if_sliding", "see 6 tokens only"),
        ((6, 0), "full", "see 6 tokens only"),
        ((0, 0), "causal", "draft in causal blocks"),
    ],
)
def test_the_cuda_provider_refuses_masks_by_name(
    windows: tuple[int, int], mask: BlockMask, said: str, tmp_path: Path
) -> None:
    spec = tiny.with_windows(tiny.drafter_spec(), *windows, mask=mask)
    tables = dict.fromkeys(("embed_tokens.weight", "lm_head.weight"), (tiny.VOCAB, tiny.HIDDEN))
    weights = tiny.weights_of(tiny.random_tensors(drafter_tensors(spec) | tables))
    save_graph(build_drafter_graph(spec, weights, {}, 128), tmp_path / "drafter.onnx")
    with pytest.raises(BackendError, match=f"layers of this drafter {said}, which backend 'onnxruntime-cuda'"):
        lower_for_cuda(tmp_path / "drafter.onnx", "draft", 128, "fp32")


def test_the_last_block_has_room(bundle: Bundle) -> None:
    """Behind a full context, and the same as behind one that was taken in at once: a block of B positions that drafts
    B - 1 tokens asks for B queries and B cells of the cache."""
    features = np.random.default_rng(0).standard_normal((96, bundle.manifest.drafter.feature_size), np.float32)
    zeros = np.zeros(1, np.float32), np.zeros((1, DRAFTED), np.float32)
    with get_backend("onnxruntime").open(bundle, EngineOptions(1)) as engines:
        ids = []
        for parts in ([features], [features[:40], features[40:]]):
            slot, used = engines.draft.new_slot(), 0
            for part in parts:
                out = engines.draft.step([slot], part, np.array([len(part)]), np.array([used]), np.array([7]), *zeros)
                used += len(part)
            ids.append(out.draft_ids.tolist())
    assert ids[0] == ids[1]


def test_the_output_is_the_target_s(bundle: Bundle) -> None:
    with get_backend("onnxruntime").open(bundle, EngineOptions(1)) as engines:
        report = check_identity(engines, bundle.manifest, PROMPTS, 40, lambda *_: None)
        assert report.passed
        assert not report.differences
        assert {r.proposed for result in report.results for r in result.rounds} <= set(range(DRAFTED + 1))
        assert max(r.proposed for result in report.results for r in result.rounds) == DRAFTED


def test_good_drafts_are_all_accepted(tmp_path: Path) -> None:
    """A drafter that knows what the target says: B - 1 of its tokens and the target's own, every round."""
    pair = scripted.write_pair(tmp_path, anchor="given")
    build_bundle(BuildPlan(*pair, tmp_path / "bundle", "onnxruntime", LIMITS), Silent())
    bundle = open_bundle(tmp_path / "bundle")
    with get_backend("onnxruntime").open(bundle, EngineOptions(1)) as engines:
        result = Generator(engines, bundle.manifest).run(GenerationRequest([5, 6, 7], 1 + 6 * tiny.BLOCK))
    assert result.token_ids == scripted.continuation(7, 1 + 6 * tiny.BLOCK)
    assert [r.accepted for r in result.rounds] == [DRAFTED] * 6


def test_on_the_command_line(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--prompt=hello",)
    on, off = (generate(capsys, bundle.path, *options, f"--speculation={how}") for how in ("on", "off"))
    assert on["token_ids"] == off["token_ids"]
    assert len(on["accepted_per_position"]) == DRAFTED


def test_rounds_are_those_of_the_torch_loop(bundle: Bundle) -> None:
    """How much of every block is accepted, too: a slot's prediction is not taken for its neighbour's."""
    pytest.importorskip("torch")
    if bundle.manifest.precision == "int8":
        pytest.skip("the oracle computes in float32")
    from dspark_export import parity

    root = bundle.path.parent
    target = open_target(root / "target")
    drafter, table = open_drafter(root / "drafter", target.spec), target.weights["embed_tokens.weight"]
    module = parity.DrafterModule(drafter.spec, drafter.weights, table, table)
    modules = parity.TargetModule(target.spec, target.weights), module
    with get_backend("onnxruntime").open(bundle, EngineOptions(1)) as engines:
        for prompt in PROMPTS[:3]:
            result = Generator(engines, bundle.manifest).run(GenerationRequest(prompt, 24))
            tokens, accepted = parity.speculative_greedy(*modules, prompt, 24, {2})
            assert result.token_ids == tokens
            assert [r.accepted for r in result.rounds] == accepted
