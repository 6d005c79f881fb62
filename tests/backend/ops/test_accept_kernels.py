"""The kernels of accepting under Triton's interpreter, against the NumPy oracle: counts and tokens exactly."""

from __future__ import annotations

import numpy as np
import pytest

from dspark_plugins.accept import BROKEN
from dspark_plugins.accept.reference import AcceptResult, accept
from dspark_plugins.accept.steps import LANES, TILE
from tests.support.accept_cases import LAST, ZERO, Feeds, assert_same, random_case, spoiled_case, starts_of
from tests.support.triton_worker import Worker


def run(worker: Worker, feeds: Feeds, sampling: bool = True) -> AcceptResult:
    result: AcceptResult = worker.call("tests.support.kernel_runs:accept", feeds, sampling)
    return result


def check(worker: Worker, feeds: Feeds) -> AcceptResult:
    """The oracle's result, which the kernels' equals; none of these lies on the edge of a decision."""
    expected = accept(**feeds)
    for sampling in {True, bool(feeds["temperature"].max() > 0)}:
        assert assert_same(feeds, run(worker, feeds, sampling), expected) == 0
    return expected


SIZES = [(1, 1, 5), (2, 2, TILE - 1), (3, 4, TILE), (1, 16, TILE + 1), (5, 2, 2 * TILE + 3), (8, 3, 100)]
SEEDS = 2


@pytest.mark.parametrize(("rows", "block", "vocab"), SIZES)
def test_kernels_verify_as_the_oracle_does(interpreter: Worker, rows: int, block: int, vocab: int) -> None:
    for seed in range(SEEDS):
        check(interpreter, random_case(rows, block, vocab, seed))
    check(interpreter, random_case(rows, block, vocab, SEEDS, temperatures=(0.0,)))


@pytest.mark.slow
@pytest.mark.parametrize("block", [1, 7, 16])
def test_kernels_verify_a_vocabulary_of_some_size(interpreter: Worker, block: int) -> None:
    for seed in range(4):
        check(interpreter, random_case(8, block, 20000, seed, temperatures=(0.0, 0.6, 1.0)))


@pytest.mark.parametrize("length", [0, 7])
def test_all_rows_of_one_length(interpreter: Worker, length: int) -> None:
    assert check(interpreter, random_case(3, 7, 128, 2, lengths=[length] * 3)).accepted.max() <= length


def test_more_rows_than_are_added_up_at_once(interpreter: Worker) -> None:
    check(interpreter, random_case(LANES + 2, 1, 60, 1))


def test_draws_from_the_ends(interpreter: Worker) -> None:
    """Uniforms of 0 and just below 1, behind rejections and full acceptances; excluded tokens never come out."""
    for uniform in (ZERO, LAST):
        feeds = random_case(4, 2, TILE + 100, 5, (1.0,), lengths=[2, 1, 2, 0])
        feeds["logits"][:, :7], feeds["logits"][:, TILE - 5 :] = -np.inf, -np.inf
        feeds["uniforms"][..., 1] = uniform
        following = check(interpreter, feeds).next_ids
        assert 7 <= following.min() <= following.max() < TILE - 5


@pytest.mark.parametrize("uniform", [ZERO, np.float32(0.5), LAST])
def test_equal_distributions_accept_everything(interpreter: Worker, uniform: np.float32) -> None:
    feeds = random_case(3, 4, 1000, 6, (0.4, 1.0), lengths=[4, 4, 4])
    for row, start in enumerate(starts_of(feeds["verify_lengths"])):
        feeds["logits"][start : start + 4] = feeds["draft_logits"][row]
    feeds["uniforms"][..., 0] = uniform
    assert (check(interpreter, feeds).accepted == 4).all()


def test_nothing_left_of_p_falls_back_to_p(interpreter: Worker) -> None:
    """A token that cannot have been drawn is rejected though p equals q: what is left is rounding."""
    feeds = random_case(2, 1, 1000, 7, (1.0,), lengths=[1, 1])
    feeds["draft_logits"][:, :, 3] = -np.inf
    feeds["logits"][[0, 2]] = feeds["draft_logits"][:, 0]
    feeds["logits"][0] += np.float32(0.1)  # the same distribution but for roundings
    feeds["draft_ids"][:] = 3
    assert (check(interpreter, feeds).accepted == 0).all()


def test_equal_logits_go_to_the_lowest_id(interpreter: Worker) -> None:
    feeds = random_case(3, 2, 2 * TILE, 8, (0.0,), lengths=[2, 2, 2])
    feeds["logits"][:, [5, 9, TILE + 1]] = 50.0
    feeds["draft_ids"][:] = [[5, 5], [5, 9], [TILE + 1, 5]]
    result = check(interpreter, feeds)
    np.testing.assert_array_equal(result.accepted, [2, 1, 0])
    np.testing.assert_array_equal(result.next_ids, [5, 5, 5])


def test_a_tiny_temperature_is_the_arg_max(interpreter: Worker) -> None:
    feeds = random_case(2, 2, 100, 9, (2e-38,), lengths=[2, 2])
    greedy = accept(**feeds | {"temperature": np.zeros(2, np.float32)})
    feeds["draft_logits"][:] = 0  # an even draft: the target alone decides
    np.testing.assert_array_equal(run(interpreter, feeds), greedy)


def test_lines_without_a_finite_maximum_give_no_token(interpreter: Worker) -> None:
    for where in (slice(None), slice(3, 4), slice(TILE, None)):
        feeds = random_case(2, 2, TILE + 5, 9, (0.0, 1.0), lengths=[2, 1])
        feeds["logits"][:, where] = np.nan
        for sampling in (True, False):
            accepted, following = run(interpreter, feeds, sampling)
            np.testing.assert_array_equal(accepted, [0, 0])
            np.testing.assert_array_equal(following, [BROKEN, BROKEN])
    for seed in range(4):
        assert BROKEN in check(interpreter, spoiled_case(5, 2, TILE + 5, seed)).next_ids
        check(interpreter, spoiled_case(5, 2, TILE + 5, seed) | {"temperature": np.zeros(5, np.float32)})


def test_rows_do_not_see_each_other(interpreter: Worker) -> None:
    feeds = random_case(4, 3, 128, 10, temperatures=(0.0, 1.0))
    together, starts = run(interpreter, feeds), starts_of(feeds["verify_lengths"])
    for row, (start, length) in enumerate(zip(starts, feeds["verify_lengths"], strict=True)):
        alone = {name: value[row : row + 1] for name, value in feeds.items()}
        alone["logits"] = feeds["logits"][start : start + length + 1]
        assert run(interpreter, alone) == (together.accepted[row], together.next_ids[row])


def test_greedy_kernels_read_neither_drafts_nor_uniforms(interpreter: Worker) -> None:
    feeds = random_case(3, 2, 128, 11, temperatures=(0.0,))
    few = {name: feeds[name] for name in ("logits", "draft_ids", "verify_lengths")}
    assert assert_same(feeds, run(interpreter, few, sampling=False), accept(**feeds)) == 0
