"""The kernels on a GPU against the NumPy oracles. Run with `pytest -m gpu tests/gpu`; skipped where there is no GPU."""

from __future__ import annotations

import numpy as np
import pytest

from dspark_plugins.accept.reference import accept
from dspark_plugins.accept.steps import TILE as ACCEPT_TILE
from dspark_plugins.markov_head import MarkovHeadSpec
from dspark_plugins.markov_head.reference import MarkovHeadResult
from dspark_plugins.markov_head.steps import FEW_ROWS, TILE
from tests.support import accept_cases
from tests.support.accept_cases import random_case
from tests.support.markov_cases import assert_same, feeds_for, moved_off_the_edges, off_the_edges, tamed, weights_for
from tests.support.triton_worker import Worker

pytestmark = pytest.mark.gpu
RUNS = "tests.support.gpu_runs"
KINDS = ("vanilla", "gated", "rnn")
SIZES = [
    *((1, 1, TILE - 1, 16), (2, 3, 2 * TILE + 1, 33), (8, 7, 1000, 256), (FEW_ROWS + 1, 2, 501, 100)),
    *((40, 3, 2000, 64), (128, 2, 1000, 256), (130, 1, 300, 24)),
]


@pytest.fixture(scope="module")
def gpu(compiler: Worker) -> Worker:
    if not compiler.call(f"{RUNS}:device"):
        pytest.skip("torch sees no NVIDIA GPU here")
    return compiler


def head_of(kind: str, block: int, rank: int) -> MarkovHeadSpec:
    return MarkovHeadSpec(kind, block, rank, 48, confidence=True, confidence_with_markov=True)  # type: ignore[arg-type]


def draft_and_compare(
    gpu: Worker, head: MarkovHeadSpec, rows: int, vocab: int, temperatures: list[float], weights: str = "fp32"
) -> None:
    parameters = tamed(weights_for(head, vocab))
    if weights != "fp32":
        parameters = {name: w.astype(np.float16).astype(np.float32) for name, w in parameters.items()}
    feeds = feeds_for(head, np.resize(temperatures, rows), rows, vocab)
    sampling = max(temperatures) > 0
    expected = moved_off_the_edges(head, feeds, parameters)
    actual: MarkovHeadResult = gpu.call(f"{RUNS}:markov", head, feeds | parameters, sampling, weights)
    if not sampling:
        actual = actual._replace(draft_logits=expected.draft_logits)
    assert off_the_edges(feeds, expected)
    assert assert_same(feeds, actual, expected) == 0


@pytest.mark.parametrize(("rows", "block", "vocab", "rank"), SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_drafts(gpu: Worker, kind: str, rows: int, block: int, vocab: int, rank: int) -> None:
    head = head_of(kind, block, rank)
    draft_and_compare(gpu, head, rows, vocab, [0.0])
    draft_and_compare(gpu, head, rows, vocab, [0.0, 0.7, 1.3])


@pytest.mark.parametrize("rows", [3, FEW_ROWS + 4])
@pytest.mark.parametrize("kind", KINDS)
def test_drafts_with_weights_in_half_precision(gpu: Worker, kind: str, rows: int) -> None:
    draft_and_compare(gpu, head_of(kind, 3, 64), rows, 1000, [0.0, 0.7, 1.3], "fp16")


@pytest.mark.parametrize("temperatures", [[0.0], [1.0]])
def test_a_real_vocabulary(gpu: Worker, temperatures: list[float]) -> None:
    draft_and_compare(gpu, head_of("vanilla", 7, 256), 4, 151936, temperatures)


@pytest.mark.parametrize(
    ("rows", "block", "vocab"), [(1, 1, 5), (8, 7, ACCEPT_TILE + 1), (40, 16, 5000), (4, 7, 151936)]
)
def test_verifies(gpu: Worker, rows: int, block: int, vocab: int) -> None:
    for temperatures in ((0.0,), (0.0, 0.6, 1.0)):
        feeds = random_case(rows, block, vocab, 1, temperatures)
        accept_cases.moved_off_the_edges(feeds)
        for sampling in {True, max(temperatures) > 0}:
            actual = gpu.call(f"{RUNS}:accept", feeds, sampling)
            assert accept_cases.assert_same(feeds, actual, accept(**feeds)) == 0


@pytest.mark.parametrize("most_rows", [FEW_ROWS, 32])
def test_the_ptx_that_engines_carry(gpu: Worker, most_rows: int) -> None:
    head = head_of("vanilla", 2, 64)
    arrays = feeds_for(head, [0.0, 1.0, 0.5], 1, 1001) | tamed(weights_for(head, 1001))
    gpu.call(f"{RUNS}:ptx_as_tensorrt_launches_it", head, arrays, most_rows)
