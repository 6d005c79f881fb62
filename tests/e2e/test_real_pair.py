"""The real pair: output unchanged, drafts as good as the torch modules' drafts, near the start and far from it.

`make slow` runs all 128 evaluation prompts; DSPARK_TEST_PROMPTS=2 makes do with the first two.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from dspark_calibration import Round, accepted_length
from dspark_engines import Bundle, open_bundle
from dspark_engines.backends import EngineOptions, Engines, get_backend
from dspark_engines.text import TextCodec
from dspark_export.checks import IdentityReport, check_identity, compare, compare_engines
from dspark_export.graphs.rope import rope_tables
from dspark_export.prompts import BUILT_IN, read_prompts

ROOT = Path(__file__).resolve().parents[2]
EVALUATION = ROOT / "calibration" / "prompts" / "evaluation.jsonl"
DRAFTER = ROOT / "examples" / "smollm2" / "drafter"
PROMPTS = int(os.environ.get("DSPARK_TEST_PROMPTS", "128"))
ORACLE_STRIDE = 4 if PROMPTS > 8 else 1  # the torch loop takes a quarter of the prompts: it recomputes every context
NEW_TOKENS = 128
WITHIN = 0.02
PROSE = (
    "The river came down from the hills in the spring, and the people of the town walked along its banks. "
    "In the evening they talked about the harvest, the weather and the price of bread. "
)


class Opened(NamedTuple):
    bundle: Bundle
    engines: Engines

    def identity(self, prompts: list[list[int]], new_tokens: int) -> IdentityReport:
        return check_identity(self.engines, self.bundle.manifest, prompts, new_tokens, lambda done, total: None)


@pytest.fixture(scope="module")
def real(smollm2_bundle: Path) -> Iterator[Opened]:
    bundle = open_bundle(smollm2_bundle)
    with get_backend("onnxruntime").open(bundle, EngineOptions()) as engines:
        yield Opened(bundle, engines)


def prompt_ids(real: Opened, texts: list[str]) -> list[list[int]]:
    codec = TextCodec(real.bundle)
    return [codec.prompt_ids(text) for text in texts]


def rounds_of(report: IdentityReport) -> list[Round]:
    return [round_ for result in report.results for round_ in result.rounds]


def assert_identical(report: IdentityReport) -> None:
    """The tie rule: a difference is a bug unless the target's two best logits are that close; ties are printed."""
    print(f"{len(report.results)} prompts, {report.tokens} tokens, {len(report.ties)} ties: {report.ties}")
    assert report.tokens >= len(report.results)
    assert report.passed, [difference for difference in report.differences if not difference.tie]


@pytest.fixture(scope="module")
def checkpoints(real: Opened) -> Any:
    """(target, drafter) as checkpoints; skips where the target's file is not there."""
    from dspark_export.checkpoints import open_drafter, open_target

    name = real.bundle.manifest.target.files[0].path
    path = Path(os.environ.get("DSPARK_TEST_TARGET", ROOT / "build" / "models" / name))
    if not path.is_file():
        pytest.skip(f"{path} is not there: make fetch downloads it")
    target = open_target(path)
    return target, open_drafter(DRAFTER, target.spec)


@pytest.fixture(scope="module")
def drafter_module(checkpoints: Any) -> Any:
    pytest.importorskip("torch").set_num_threads(1)  # several are many times slower where anything else runs
    from dspark_export import parity

    target, drafter = checkpoints
    table = target.weights["embed_tokens.weight"]  # tied: it is the head as well
    return parity.DrafterModule(drafter.spec, drafter.weights, table, table)


def test_output_is_unchanged_and_drafts_are_accepted(real: Opened) -> None:
    report = real.identity(prompt_ids(real, list(BUILT_IN[:3])), 24)
    assert_identical(report)
    print(f"accepted length {accepted_length(rounds_of(report)):.2f}")
    assert accepted_length(rounds_of(report)) > 1.2  # near 1 when anything about positions, taps or slots is off


def test_engines_compute_what_the_graphs_say(real: Opened) -> None:
    results = compare_engines(real.bundle, real.engines)
    assert all(result.passed for result in results), [result for result in results if not result.passed]


def test_long_context(real: Opened) -> None:
    """Positions, chunks and caches far from the start."""
    (ids,) = prompt_ids(real, [PROSE * 38 + "What did the people talk about in the evening?"])
    assert 1400 < len(ids) < 1700
    report = real.identity([ids], 16)
    assert_identical(report)
    assert accepted_length(rounds_of(report)) > 1.2


def test_drafts_far_from_the_start(real: Opened, drafter_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The draft engine at position 1200, fed in steps, against torch with the same angles.

    float32 angles, torch's habit, are off by 1e-4 there; ours are made in float64, so torch is given those.
    """
    torch = pytest.importorskip("torch")
    from dspark_export.parity import decoder as module
    from dspark_export.parity import draft_greedy
    from dspark_export.parity.check import own_columns

    def tables(positions: Any, head_dim: int, rope: Any) -> Any:
        cos, sin = rope_tables(rope, head_dim, int(positions[-1]) + 1)
        return tuple(torch.from_numpy(np.concatenate([table, table], axis=1)) for table in (cos, sin))

    monkeypatch.setattr(module, "rotary_tables", tables)
    info, slot, used = real.bundle.manifest.drafter, real.engines.draft.new_slot(), 0
    features = 3 * np.random.default_rng(0).standard_normal((1200, info.feature_size), np.float32)
    for end in (700, 1193, 1194, 1200):
        lengths, zero = np.array([end - used]), np.zeros(1, np.float32)
        uniforms = np.zeros((1, info.block_size), np.float32)
        part = features[used:end]
        out = real.engines.draft.step([slot], part, lengths, np.array([used]), np.array([1234]), zero, uniforms)
        used = end
    own = features[:, own_columns(real.bundle, info.target_layer_ids)]
    with torch.inference_mode():
        base, hidden = drafter_module(torch.from_numpy(own), 1234)
        ids, confidence, logits = (x.numpy() for x in draft_greedy(drafter_module, base, hidden, 1234))
    assert out.draft_ids[0].tolist() == ids.tolist()
    assert compare("drafter.draft_logits", np.asarray(out.draft_logits)[0], logits).passed
    assert compare("drafter.confidence_logits", out.confidence_logits[0], confidence).passed


@pytest.fixture(scope="module")
def evaluation(real: Opened) -> list[list[int]]:
    return prompt_ids(real, read_prompts(EVALUATION, PROMPTS))


@pytest.fixture(scope="module")
def evaluated(real: Opened, evaluation: list[list[int]]) -> IdentityReport:
    """All evaluation prompts, with speculation and without: minutes."""
    return real.identity(evaluation, NEW_TOKENS)


@pytest.mark.slow
def test_evaluation_output_is_unchanged(evaluated: IdentityReport) -> None:
    assert_identical(evaluated)
    print(f"accepted length {accepted_length(rounds_of(evaluated)):.3f}")
    assert len(evaluated.results) == PROMPTS


@pytest.mark.slow
def test_accepted_length_is_that_of_torch(
    real: Opened, evaluation: list[list[int]], evaluated: IdentityReport, checkpoints: Any, drafter_module: Any
) -> None:
    """Tokens a round, the target's own included, over all rounds of the same prompts; both sides count alike."""
    torch = pytest.importorskip("torch")
    from dspark_export import parity

    target, chosen = parity.TargetModule(checkpoints[0].spec, checkpoints[0].weights), slice(None, None, ORACLE_STRIDE)
    eos, tokens, rounds, same = real.bundle.manifest.target.eos_token_ids, 0, 0, 0
    ours = evaluated.results[chosen]
    with torch.inference_mode():
        for prompt, result in zip(evaluation[chosen], ours, strict=True):
            ids, accepted = parity.speculative_greedy(target, drafter_module, prompt, NEW_TOKENS, eos)
            tokens, rounds = tokens + len(ids) - 1, rounds + len(accepted)  # the first token comes from the prompt
            same += ids == result.token_ids
    mine, theirs = accepted_length([r for result in ours for r in result.rounds]), tokens / rounds
    print(f"{len(ours)} prompts: accepted length {mine:.4f}, torch {theirs:.4f}; {same} outputs equal torch's")
    assert mine == pytest.approx(theirs, rel=WITHIN)
