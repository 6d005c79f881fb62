"""The real pair in company: whoever joins, leaves or is verified beside a request, its output is what it gets alone.

`make slow` runs 64 requests through every scheduler and batch size; DSPARK_TEST_REQUESTS=8 makes do with the first 8.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from dspark_engines import GenerationRequest, GenerationResult, Generator, Runtime, RuntimeOptions, open_bundle
from dspark_engines.backends import EngineOptions, Engines, get_backend
from dspark_engines.bundle import Bundle
from dspark_engines.measured import save_cost_table
from dspark_engines.scheduler import scheduler_names
from dspark_engines.text import TextCodec
from dspark_export.checks import TIE_GAP
from dspark_export.checks.identity import first_difference, top_gap
from dspark_export.prompts import read_prompts
from tests.support.costs import made_up_costs

EVALUATION = Path(__file__).resolve().parents[2] / "calibration" / "prompts" / "evaluation.jsonl"
REQUESTS = int(os.environ.get("DSPARK_TEST_REQUESTS", "64"))
NEW_TOKENS = (4, 16)
PLACES = 8


class Served(NamedTuple):
    """Opened engines, the requests, and what each of them gets alone and without speculation."""

    bundle: Bundle
    engines: Engines | None
    requests: list[GenerationRequest]
    alone: list[list[int]]


@pytest.fixture(scope="module")
def bundle(smollm2_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The real bundle's files with a cost table of our own, so that schedulers choose on whatever machine this is."""
    path = tmp_path_factory.mktemp("real") / "bundle"
    # Not linked: graphs whose weights have another name on the disk are refused from then on.
    shutil.copytree(smollm2_bundle, path, ignore=shutil.ignore_patterns("calibration"))
    opened = open_bundle(path)
    if opened.manifest.limits.slots < PLACES:
        pytest.skip(f"{smollm2_bundle} was built for {opened.manifest.limits.slots} requests at once, not {PLACES}")
    save_cost_table(made_up_costs(opened, EngineOptions()), opened)
    return opened


@pytest.fixture(scope="module")
def served(bundle: Bundle) -> Iterator[Served]:
    rng, codec = random.Random(0), TextCodec(bundle)
    prompts = read_prompts(EVALUATION)
    requests = [
        GenerationRequest(codec.prompt_ids(prompt), rng.randint(*NEW_TOKENS))
        for prompt in rng.sample(prompts, REQUESTS)
    ]
    with get_backend("onnxruntime").open(bundle, EngineOptions()) as engines:
        generator = Generator(engines, bundle.manifest)
        alone = [generator.run(replace(request, speculate=False)).token_ids for request in requests]
        yield Served(bundle, engines, requests, alone)


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", scheduler_names())
@pytest.mark.parametrize("max_batch", [1, 4, PLACES])
def test_output_in_company_is_that_of_the_request_alone(served: Served, max_batch: int, scheduler: str) -> None:
    runtime, results = serve(served, RuntimeOptions(max_batch=max_batch, scheduler=scheduler, speculation="on"))
    assert_same(served, results)
    verified = sum(span.engine == "verify" for span in runtime.timeline.spans)
    rounds = sum(len(result.rounds) for result in results)
    assert (verified < rounds) == (max_batch > 1), "requests were to share steps"
    assert any(r.accepted for result in results for r in result.rounds), "nothing was ever accepted"
    if scheduler != "fixed":
        assert any(was_cut(*pair, served) for pair in zip(served.requests, results, strict=True)), "never chose"


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("scheduler", ["fixed", "async"])
def test_two_cohorts_change_nothing(served: Served, scheduler: str, shared: bool) -> None:
    """On engines of their own, on those that use all cores whenever one is alone, and taking turns on one pair."""
    options = RuntimeOptions(max_batch=PLACES, scheduler=scheduler, speculation="on", pipeline="on")
    runtime, results = serve(served if shared else served._replace(engines=None), options)
    assert ("take turns" if shared else "of its own") in runtime.plan.cohorts.reason
    assert_same(served, results)
    assert {span.cohort for span in runtime.timeline.spans} == {0, 1}
    assert runtime.timeline.overlap_seconds() > 0


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["threshold", "algorithm1", "async"])
def test_drafting_only_where_it_pays_changes_nothing(served: Served, scheduler: str) -> None:
    runtime, results = serve(served, RuntimeOptions(max_batch=PLACES, scheduler=scheduler))
    assert_same(served, results)
    assert any(span.engine == "draft" for span in runtime.timeline.spans)


def serve(served: Served, options: RuntimeOptions) -> tuple[Runtime, list[GenerationResult]]:
    """Submit one after the other; before about half of them, wait until the one before has its first token."""
    rng, streams = random.Random(options.max_batch), []
    with Runtime(served.bundle, options, engines=served.engines) as runtime:
        for request in served.requests:
            streams.append(runtime.submit(request))
            if rng.random() < 0.5:
                next(iter(streams[-1]))
        return runtime, [stream.result() for stream in streams]


def assert_same(served: Served, results: Sequence[GenerationResult]) -> None:
    """The tie rule: a difference is a bug unless the target's two best logits are that close; ties are printed."""
    ties, bugs = [], []
    for number, (request, result, expected) in enumerate(zip(served.requests, results, served.alone, strict=True)):
        position = first_difference(expected, result.token_ids)
        if position is not None:
            prefix = [*request.prompt_ids, *expected[:position]]
            gap = top_gap(served.engines, served.bundle.manifest, prefix)
            (ties if gap <= TIE_GAP else bugs).append((number, position, gap))
    print(f"{len(results)} requests, {sum(map(len, served.alone))} tokens, {len(ties)} ties: {ties}")
    assert not bugs, bugs


def was_cut(request: GenerationRequest, result: GenerationResult, served: Served) -> bool:
    """Whether some round verified less than the whole block though the request had use for it."""
    left, block = request.max_new_tokens - 1, served.bundle.manifest.drafter.block_size
    for round_ in result.rounds:
        if round_.proposed < min(block, left - 1):
            return True
        left -= round_.produced
    return False
