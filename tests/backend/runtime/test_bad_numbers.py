"""Numbers that are not finite: they end the request that they are given to, or its draft, and touch nobody else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dspark_engines import GenerationRequest, Generator, Runtime, RuntimeOptions, SamplingParams
from dspark_engines.backends import EngineOptions, Engines, get_backend
from dspark_engines.bundle import Bundle, Limits, open_bundle
from dspark_engines.errors import GenerationError
from dspark_engines.runtime import run_statistics
from dspark_engines.runtime.round.draft_health import MOST_BAD_BLOCKS
from dspark_export.bundling import BuildPlan, Silent, build_bundle
from tests.support.spoiled import Spoil, SpoiledDraft, SpoiledVerify

OPTIONS, TOKENS, PROMPT = EngineOptions(threads=1), 12, 20
WAYS = {
    "greedy": SamplingParams(),
    "sampled": SamplingParams(0.9, seed=4),
    "top-k": SamplingParams(0.9, top_k=20, seed=5),
    "top-p": SamplingParams(0.9, top_p=0.9, seed=6),
    "min-p": SamplingParams(0.9, min_p=0.02, seed=7),
}


@pytest.fixture(scope="module")
def bundle(tiny_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("bad") / "bundle"
    limits = Limits(context_length=96, prefill_chunk=16, slots=4)
    build_bundle(BuildPlan(*tiny_pair, path, "onnxruntime", limits), Silent())
    return open_bundle(path)


@pytest.fixture(scope="module")
def engines(bundle: Bundle) -> Iterator[Engines]:
    with get_backend("onnxruntime").open(bundle, OPTIONS) as opened:
        yield opened


def requests(params: SamplingParams, speculate: bool) -> list[GenerationRequest]:
    """Four in one step: speculating and plain, greedy and not."""
    ways = [(params, speculate), (SamplingParams(), True), (SamplingParams(1.1, seed=3), True), (params, False)]
    return [
        GenerationRequest([4 + number, *range(30, 29 + PROMPT)], TOKENS, draft, way)
        for number, (way, draft) in enumerate(ways)
    ]


def serve(bundle: Bundle, engines: Engines, asked: Sequence[GenerationRequest]) -> tuple[list[object], Runtime]:
    """Token ids, or the error, of each."""
    outcomes: list[object] = []
    with Runtime(bundle, RuntimeOptions(pipeline="off", speculation="on"), engines=engines) as runtime:
        for stream in [runtime.submit(request) for request in asked]:
            try:
                outcomes.append(stream.result().token_ids)
            except GenerationError as error:
                outcomes.append(error)
    return outcomes, runtime


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("speculate", [True, False], ids=["drafts", "plain"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("at", [0, PROMPT - 1, PROMPT + 4], ids=["prompt", "first token", "later"])
def test_a_bad_row_of_the_target_ends_its_request_alone(
    bundle: Bundle, engines: Engines, way: str, speculate: bool, at: int, value: float
) -> None:
    asked = requests(WAYS[way], speculate)
    expected, _ = serve(bundle, engines, asked)
    spoiled = Engines(SpoiledVerify(engines.verify, {0}, value, at), engines.draft)
    (first, *others), _ = serve(bundle, spoiled, asked)
    assert others == expected[1:]
    assert isinstance(first, GenerationError)
    position = max(at + 1, PROMPT)
    assert f"at position {position} (token {position - PROMPT + 1} of the output)" in str(first)
    assert "dspark-export check" in first.hint


def test_a_generator_raises(bundle: Bundle, engines: Engines) -> None:
    generator = Generator(
        Engines(SpoiledVerify(engines.verify, {0}, np.nan, PROMPT + 2), engines.draft), bundle.manifest
    )
    bad, good = requests(SamplingParams(), True)[:2]
    with pytest.raises(GenerationError, match="token 4 of the output"):
        generator.run(bad)
    assert generator.run(good).token_ids == Generator(engines, bundle.manifest).run(good).token_ids


def confidences(first: int) -> Spoil:
    def spoil(block: int, confidence: np.ndarray, logits: np.ndarray) -> None:
        confidence[first] = np.nan

    return spoil


def one_logit(first: int, value: float) -> Spoil:
    def spoil(block: int, confidence: np.ndarray, logits: np.ndarray) -> None:
        logits[first, 7 : 7 + logits.shape[1]] = value

    return spoil


SPOILS = {
    "NaN confidence": (confidences(0), 0),
    "NaN confidence inside": (confidences(2), 2),
    "NaN logit": (one_logit(0, np.nan), 0),
    "infinite logits inside": (one_logit(3, np.inf), 3),
}


@pytest.mark.parametrize("spoil", SPOILS)
def test_a_bad_block_is_verified_up_to_the_bad_number(bundle: Bundle, engines: Engines, spoil: str) -> None:
    """Then the request stops drafting; the others go on, and no output but its own draws changes."""
    change, first = SPOILS[spoil]
    sampled = SamplingParams(0.9, seed=4)
    asked = [replace(request, sampling=sampled) for request in requests(sampled, True)]
    asked[1] = replace(asked[1], sampling=SamplingParams())
    expected, _ = serve(bundle, engines, asked)
    draft = SpoiledDraft(engines.draft, {0}, change)
    with (
        pytest.warns(RuntimeWarning, match="confidences or logits are NaN; such blocks are not verified"),
        Runtime(
            bundle, RuntimeOptions(pipeline="off", speculation="on"), engines=Engines(engines.verify, draft)
        ) as runtime,
    ):
        results = runtime.generate(asked)
    assert [result.token_ids for result in results[1:]] == expected[1:]
    assert len(results[0].token_ids) == TOKENS
    assert list(draft.blocks.values()) == [MOST_BAD_BLOCKS]
    proposed = [r.proposed for r in results[0].rounds]
    assert proposed[:MOST_BAD_BLOCKS] == [first] * MOST_BAD_BLOCKS
    assert not any(proposed[MOST_BAD_BLOCKS:])
    assert any(r.proposed > first for result in results[1:3] for r in result.rounds)
    statistics = run_statistics(runtime, results)
    assert (statistics.bad_blocks, statistics.draft_failures) == (MOST_BAD_BLOCKS, 0)
    assert "3 blocks held NaN" in statistics.trouble()


def test_a_greedy_request_is_not_held_up_by_draft_logits(bundle: Bundle, engines: Engines) -> None:
    """Nobody reads them: the target alone decides, and the output is what it is without drafts."""
    request = requests(SamplingParams(), True)[1]
    expected, _ = serve(bundle, engines, [replace(request, speculate=False)])
    draft = SpoiledDraft(engines.draft, {0}, one_logit(0, np.nan))
    outcome, runtime = serve(bundle, Engines(engines.verify, draft), [request])
    assert outcome == expected
    assert runtime.draft_health[0].bad_blocks == 0


def test_bad_blocks_now_and_then_do_not_end_drafting(bundle: Bundle, engines: Engines) -> None:
    def spoil(block: int, confidence: np.ndarray, logits: np.ndarray) -> None:
        if block % 3 < 2:
            confidence[:] = np.nan

    draft = SpoiledDraft(engines.draft, {0}, spoil)
    request = replace(requests(SamplingParams(), True)[1], max_new_tokens=40)
    with pytest.warns(RuntimeWarning, match="confidences or logits are NaN"):
        outcome, runtime = serve(bundle, Engines(engines.verify, draft), [request])
    assert outcome == serve(bundle, engines, [replace(request, speculate=False)])[0]
    (blocks,) = draft.blocks.values()
    assert blocks > 9
    assert runtime.draft_health[0].bad_blocks >= 6
