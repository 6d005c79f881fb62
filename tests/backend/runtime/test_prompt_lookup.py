"""Prompt lookup in bundles with a drafter and of a target alone: the output stays the target's."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dspark_engines import Bundle, GenerationRequest, Runtime, RuntimeOptions, SamplingParams, open_bundle
from dspark_engines.backends import EngineOptions
from dspark_engines.bundle import Limits
from dspark_engines.measured import DraftPrior, MeasuredDrafting, save_cost_table
from dspark_engines.runtime import run_statistics
from dspark_engines.runtime.serving.plan import plan_runtime
from dspark_engines.scheduler import FixedSpec, scheduler_names
from dspark_export.bundling import BuildPlan, Silent, build_bundle
from dspark_export.checks.sampling import compare_sampling
from tests.support import tiny
from tests.support.command_line import run
from tests.support.costs import made_up_costs

ONE = EngineOptions(1)
LIMITS = Limits(context_length=128, prefill_chunk=64, slots=4)
PERIODIC = [5, 6, 7, 8, 9, 10] * 6
PROMPTS = [PERIODIC, [11], [20, 21, 22, 20, 21], list(range(4, 60)), [30, 31] * 20, [40, 41, 42]]


@pytest.fixture(scope="module", params=["pair", "alone"])
def bundle(
    request: pytest.FixtureRequest, tiny_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """Seen through prompt lookup; tests must not change it."""
    drafter = tiny_pair[1] if request.param == "pair" else None
    path = tmp_path_factory.mktemp("lookup") / request.param
    build_bundle(BuildPlan(tiny_pair[0], drafter, path, "onnxruntime", LIMITS), Silent())
    found = open_bundle(path).with_drafter("ngram")
    save_cost_table(made_up_costs(found, ONE), found)
    return found


def requests(heat: float = 0.0) -> list[GenerationRequest]:
    return [
        GenerationRequest(prompt, 40, sampling=SamplingParams(heat, seed=seed)) for seed, prompt in enumerate(PROMPTS)
    ]


@pytest.fixture(scope="module")
def plain(bundle: Bundle) -> list[list[int]]:
    with Runtime(bundle, RuntimeOptions(engines=ONE, max_batch=1, speculation="off")) as runtime:
        return [result.token_ids for result in runtime.generate(requests())]


@pytest.mark.parametrize("scheduler", scheduler_names())
def test_greedy_output_is_the_target_s(bundle: Bundle, plain: list[list[int]], scheduler: str) -> None:
    options = RuntimeOptions(engines=ONE, scheduler=scheduler, speculation="on")
    with Runtime(bundle, options) as runtime:
        results = runtime.generate(requests())
    assert [result.token_ids for result in results] == plain
    assert sum(round_.accepted for result in results for round_ in result.rounds) > 10
    assert run_statistics(runtime, results).trouble() == ""


def test_where_nothing_is_found_nothing_is_verified(bundle: Bundle) -> None:
    """A prompt of different tokens: until one comes again there is no draft, and none is guessed."""
    with Runtime(bundle, RuntimeOptions(engines=ONE, scheduler="fixed", speculation="on")) as runtime:
        (result,) = runtime.generate([GenerationRequest([40, 41, 42], 40)])
    text, proposed = [41, 42], []
    for token in result.token_ids[:-1]:
        proposed.append(token in text)
        text.append(token)
    position = 0
    for round_ in result.rounds[:-2]:
        assert (round_.proposed > 0) == proposed[position]
        position += round_.produced
    assert {True, False} <= set(proposed)


def test_cohorts_take_each_other_s_slots(bundle: Bundle, plain: list[list[int]]) -> None:
    options = RuntimeOptions(engines=ONE, scheduler="threshold", speculation="on", pipeline="on")
    with Runtime(bundle, options) as runtime:
        results = runtime.generate(requests() * 2)
    assert [result.token_ids for result in results] == plain * 2


def test_sampled_output_depends_on_the_seed_alone(bundle: Bundle) -> None:
    found = []
    for batch in (1, 4):
        with Runtime(bundle, RuntimeOptions(engines=ONE, max_batch=batch, scheduler="fixed", speculation="on")) as made:
            found.append([result.token_ids for result in made.generate(requests(0.7))])
    assert found[0] == found[1]


@pytest.mark.parametrize("scheduler", [pytest.param("fixed", marks=pytest.mark.slow), "threshold"])
@pytest.mark.parametrize("bundle", ["alone"], indirect=True)
def test_sampled_tokens_are_distributed_as_without_drafts(bundle: Bundle, scheduler: str) -> None:
    """Every token of the vocabulary stands in the prompt, so every first token has a draft behind it."""
    prompt = np.random.default_rng(0).permutation(np.arange(4, 100)).tolist()
    options = RuntimeOptions(engines=ONE, scheduler=scheduler, speculation="on")
    tests = compare_sampling(bundle, options, prompt, 300, lambda done, total: None, temperature=0.4)
    assert [test.position for test in tests] == [0, 1]
    assert all(test.passed and test.degrees > 3 for test in tests), tests


def test_with_nothing_measured_it_decodes_plainly(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle).with_drafter("ngram")
    assert not plan_runtime(bundle, RuntimeOptions(engines=ONE)).speculating
    assert plan_runtime(bundle, RuntimeOptions(engines=ONE, speculation="on")).speculating


@pytest.mark.parametrize(("survival", "length"), [([0.8, 0.7, 0.1, 0.0, 0.0], 2), ([0.01] * 5, 0)])
def test_what_was_measured_decides(bundle: Bundle, survival: list[float], length: int) -> None:
    drafting = MeasuredDrafting(survival=survival, spread=0.1, rounds=50)
    save_cost_table(made_up_costs(bundle, ONE).model_copy(update={"drafting": drafting}), bundle)
    try:
        plan = plan_runtime(bundle, RuntimeOptions(engines=ONE))
    finally:
        save_cost_table(made_up_costs(bundle, ONE), bundle)
    assert plan.speculating is bool(length)
    if length:
        assert (plan.scheduler, plan.prior) == (FixedSpec(length), DraftPrior(tuple(survival), 0.1))


def test_a_batch_from_the_command_line(
    bundle: Bundle, plain: list[list[int]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "batch.jsonl"
    file.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in ("hi", "one two one two one")))
    arguments = ("generate", bundle.path, f"--batch-file={file}", "--max-new-tokens=24", "--raw", "--threads=1")
    drafted = run(capsys, *arguments, "--drafter=ngram", "--speculation=on")
    alone = run(capsys, *arguments, "--drafter=none")
    assert (drafted.code, alone.code) == (0, 0)
    found, expected = ([json.loads(line) for line in out.splitlines()] for out in (drafted.out, alone.out))
    assert [line["token_ids"] for line in found] == [line["token_ids"] for line in expected]
    assert any(line["accepted_length"] > 1 for line in found)


def test_profile_leaves_a_table_of_its_own(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = replace(bundle, path=Path(shutil.copytree(bundle.path, tmp_path / "copy")))
    arguments = ("--drafter=ngram", "--context=16", "--samples=3", "--seconds=0", "--threads=1")
    outcome = run(capsys, "profile", copy.path, *arguments)
    assert outcome.code == 0, outcome.err
    stored = copy.path / "calibration/ngram/cost_table.json"
    table = json.loads(stored.read_text())
    assert {timing["tokens"] for timing in table["draft"]} == {rows * tiny.BLOCK for rows in (1, 2, 4)}
    assert copy.file("calibration/cost_table.json") == stored
