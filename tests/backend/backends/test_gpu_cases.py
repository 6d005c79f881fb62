"""The tests under tests/gpu with the oracle in the GPU's place: whoever has a GPU shall not find out that they fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dspark_plugins.accept.reference import AcceptResult, accept
from dspark_plugins.markov_head import MarkovHeadSpec
from dspark_plugins.markov_head.reference import MarkovHeadResult, markov_head
from tests.gpu import test_kernels as on_gpu
from tests.support.markov_cases import NEAR, off_the_edge

VERIFICATIONS = [(1, 1, 5), (8, 7, on_gpu.ACCEPT_TILE + 1), (40, 16, 5000)]


class Oracle:
    """Answers as the process with the GPU does; `wrong` adds 1 to the last token of every answer."""

    def __init__(self, wrong: int = 0) -> None:
        self.wrong = wrong

    def call(self, function: str, *arguments: Any) -> Any:
        return self.markov(*arguments) if function.endswith(":markov") else self.accept(*arguments)

    def markov(self, head: MarkovHeadSpec, arrays: dict[str, np.ndarray], sampling: bool, _: str) -> MarkovHeadResult:
        weights = {name: arrays[name] for name in head.inputs()[5:]}
        result = markov_head(head, **{name: arrays[name] for name in head.inputs()[:5]}, weights=weights)
        result.draft_ids[-1, -1] += self.wrong
        return result

    def accept(self, feeds: dict[str, np.ndarray], sampling: bool) -> AcceptResult:
        result = accept(**feeds)
        result.next_ids[-1] += self.wrong
        return result


@pytest.mark.parametrize("kind", on_gpu.KINDS)
def test_drafting_cases_can_pass(kind: str) -> None:
    gpu: Any = Oracle()
    for sizes in on_gpu.SIZES:
        on_gpu.test_drafts(gpu, kind, *sizes)
    on_gpu.test_drafts_with_weights_in_half_precision(gpu, kind, 3)


@pytest.mark.parametrize("sizes", VERIFICATIONS)
def test_accept_cases_can_pass(sizes: tuple[int, int, int]) -> None:
    gpu: Any = Oracle()
    on_gpu.test_verifies(gpu, *sizes)


@pytest.mark.slow
@pytest.mark.parametrize("temperatures", [[0.0], [1.0]])
def test_a_real_vocabulary_can_pass(temperatures: list[float]) -> None:
    gpu: Any = Oracle()
    on_gpu.test_a_real_vocabulary(gpu, temperatures)


def test_they_can_fail() -> None:
    gpu: Any = Oracle(wrong=1)
    with pytest.raises(AssertionError):
        on_gpu.test_drafts(gpu, "vanilla", *on_gpu.SIZES[1])
    with pytest.raises(AssertionError):
        on_gpu.test_verifies(gpu, *VERIFICATIONS[1])


def test_a_uniform_is_moved_off_the_edge() -> None:
    weights = np.array([1.0, 1e-9, 2.0, 1.0])
    assert off_the_edge(weights, 0.6) == 0.6
    assert off_the_edge(weights, 0.25 + NEAR) == pytest.approx(0.125)  # the tiny token is no place to be
    assert off_the_edge(weights, 0.75) in (pytest.approx(0.5), pytest.approx(0.875))
