"""`dspark::Accept`: the function body in ONNX Runtime against the NumPy oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dspark_plugins.accept import BROKEN, AcceptSpec
from dspark_plugins.accept.function import accept_function
from dspark_plugins.accept.reference import AcceptResult, accept, draw, probabilities
from dspark_plugins.drawing import TILE
from tests.support.accept_body import body
from tests.support.accept_cases import LAST, ZERO, Feeds, assert_same, pack, random_case, spoiled_case, starts_of


def both(feeds: Feeds) -> AcceptResult:
    """The oracle's result, which the body's equals."""
    expected = accept(**feeds)
    assert assert_same(feeds, body(feeds), expected) == 0
    return expected


def one_row(lines: Any, ids: list[int], drafts: Any, uniforms: Any, temperature: float = 1.0) -> Feeds:
    """One row with all of its block verified; arrays broadcast over positions, and over (accept, next)."""
    drafts, block = np.atleast_2d(np.asarray(drafts, np.float32)), len(ids)
    vocab = drafts.shape[1]
    return {
        "logits": np.broadcast_to(np.asarray(lines, np.float32), (block + 1, vocab)).copy(),
        "draft_ids": np.array([ids]),
        "draft_logits": np.broadcast_to(drafts, (1, block, vocab)).copy(),
        "verify_lengths": np.array([block]),
        "temperature": np.array([temperature], np.float32),
        "uniforms": np.broadcast_to(np.asarray(uniforms, np.float32), (1, block + 1, 2)).copy(),
    }


@pytest.mark.parametrize("vocab", [3, 128, 1000])
@pytest.mark.parametrize("block", [1, 2, 7])
def test_body_matches_oracle(block: int, vocab: int) -> None:
    seen = set()
    for rows in (1, 2, 5):
        for seed in range(12):
            feeds = random_case(rows, block, vocab, seed)
            seen |= set(zip(feeds["verify_lengths"].tolist(), both(feeds).accepted.tolist(), strict=True))
    assert {(0, 0), (block, block)} <= seen
    assert any(accepted < length for length, accepted in seen)


@pytest.mark.parametrize("vocab", [3, TILE + 1])
def test_lines_without_a_finite_maximum(vocab: int) -> None:
    """The greedy branch too; whatever ONNX Runtime's reductions and softmax make of NaN."""
    endings = {token for seed in range(30) for token in both(spoiled_case(6, 4, vocab, seed)).next_ids.tolist()}
    assert BROKEN in endings
    assert len(endings) > 2
    for seed in range(10):
        both(spoiled_case(6, 4, vocab, seed) | {"temperature": np.zeros(6, np.float32)})


@pytest.mark.parametrize("vocab", [TILE - 1, TILE, TILE + 1, 2 * TILE])
def test_sizes_just_off_a_tile(vocab: int) -> None:
    for uniform in (None, ZERO, LAST):
        feeds = random_case(16, 2, vocab, 1, temperatures=(1.0,))
        if uniform is not None:
            feeds["uniforms"][..., 1] = uniform
        both(feeds)


@pytest.mark.parametrize("length", [0, 7])
def test_all_rows_of_one_length(length: int) -> None:
    accepted = both(random_case(5, 7, 128, 2, lengths=[length] * 5)).accepted
    assert accepted.max() <= length


def test_edges_are_rare() -> None:
    """Many rows over a vocabulary of some size: float32 sums in the body, float64 in the oracle."""
    edges = 0
    for seed in range(5):
        feeds = random_case(200, 7, 1000, seed, temperatures=(0.6, 1.0, 2.0))
        edges += assert_same(feeds, body(feeds), accept(**feeds))
    assert edges <= 3


def test_equal_logits_go_to_the_lowest_id() -> None:
    tied = [0.0, 4.0, 1.0, 4.0, 4.0]
    for ids, outcome in (([1, 1], (2, 1)), ([1, 3], (1, 1)), ([3, 1], (0, 1))):
        assert both(one_row(tied, ids, tied, 0.5, temperature=0.0)) == outcome


@pytest.mark.parametrize("uniform", [ZERO, 0.5, LAST])
def test_excluded_tokens_neither_stand_nor_come_out(uniform: float) -> None:
    lines = np.array([-np.inf, 1.0, -np.inf, 0.0, -np.inf], np.float32)
    for token in (0, 2, 4):
        accepted, following = both(one_row(lines, [token, 1], np.zeros(5), uniform))
        assert accepted == 0
        assert following in (1, 3)


@pytest.mark.parametrize("uniform", [ZERO, 0.5, LAST])
@pytest.mark.parametrize("temperature", [0.4, 1.0])
def test_equal_distributions_accept_everything(uniform: float, temperature: float) -> None:
    logits = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    assert both(one_row(logits, [3, 999, 0], logits, uniform, temperature)).accepted == 3
    if uniform < LAST:  # p and q differ by rounding, as the same logits out of two engines do
        assert both(one_row(logits + np.float32(0.1), [3, 999, 0], logits, uniform, temperature)).accepted == 3


def test_nothing_left_of_p_falls_back_to_p() -> None:
    logits = np.array([-np.inf, 0.3, 1.0, -0.5], np.float32)
    for change in (0.0, 0.1, [0, 0, 0, 5e-7]):  # exactly nothing, and roundings
        lines = logits + np.array(change, np.float32)
        for uniform in (ZERO, 0.2, 0.5, 0.9, LAST):
            feeds = one_row(lines, [0], logits, uniform)  # token 0 cannot have been drawn
            assert both(feeds) == (0, draw(probabilities(lines, 1.0), uniform))


@pytest.mark.parametrize("uniform", [ZERO, 0.5, LAST])
def test_a_certain_target_has_its_way(uniform: float) -> None:
    certain = np.full(5, -np.inf)
    certain[3] = 2.0
    assert both(one_row(certain, [3, 3], np.arange(5), uniform)) == (2, 3)
    assert both(one_row(certain, [3, 4], np.arange(5), uniform)) == (1, 3)


def test_a_certain_drafter_stands_with_the_probability_of_its_token() -> None:
    certain = np.full(4, -np.inf)
    certain[2] = 0.0
    lines = np.log([0.25, 0.125, 0.5, 0.125])
    for uniform, accepted in ((ZERO, 1), (0.499, 1), (0.501, 0), (LAST, 0)):
        assert both(one_row(lines, [2], certain, uniform)).accepted == accepted
    following = [both(one_row(lines, [2], certain, [0.9, u])).next_ids[0] for u in (0.0, 0.49, 0.51, 0.74, 0.76, LAST)]
    assert following == [0, 0, 1, 1, 3, 3]  # what is left without token 2: 1/2, 1/4, 1/4


def test_a_tiny_temperature_is_the_arg_max() -> None:
    logits = np.array([10.0, 30.0, 20.0])  # divided by it, these are beyond float32
    assert both(one_row(logits, [1, 1], np.zeros(3), 0.5, temperature=2e-38)) == (2, 1)


def test_rows_do_not_see_each_other() -> None:
    feeds = random_case(5, 7, 128, 3, temperatures=(0.0, 1.0))
    together, starts = body(feeds), starts_of(feeds["verify_lengths"])
    for row, (start, length) in enumerate(zip(starts, feeds["verify_lengths"], strict=True)):
        alone = {name: value[row : row + 1] for name, value in feeds.items()}
        alone["logits"] = feeds["logits"][start : start + length + 1]
        assert body(alone) == (together.accepted[row], together.next_ids[row])


def test_only_the_stop_is_drawn() -> None:
    """Uniforms and drafts behind the stop, and of greedy rows, change nothing."""
    feeds = random_case(16, 7, 128, 4)
    expected = both(feeds)
    for row, accepted in enumerate(expected.accepted):
        seen = accepted if feeds["temperature"][row] else -1
        feeds["uniforms"][row, seen + 1 :] = 0.123
        feeds["draft_logits"][row, seen + 1 :] = 7.0
    np.testing.assert_array_equal(both(feeds), expected)


def test_greedy_batches_pay_for_the_arg_max_only() -> None:
    feeds = random_case(5, 2, 128, 5, temperatures=(0.0,))
    feeds["draft_logits"][:], feeds["uniforms"][:] = np.nan, np.nan
    both(feeds)
    wide = {"Softmax", "Div", "CumSum", "Pad"}
    function = accept_function(AcceptSpec(2))
    branches = next(node for node in function if node.op_type == "If").attributes
    operators = [{node.op_type for node in branches[name].as_graph()} for name in ("then_branch", "else_branch")]
    assert wide <= operators[0]
    assert not (wide - {"CumSum"}) & (operators[1] | {node.op_type for node in function})


def test_packing_leaves_out_what_is_not_verified() -> None:
    lines = np.arange(12.0).reshape(2, 3, 2)
    np.testing.assert_array_equal(pack(lines, np.array([0, 2])), [[0, 1], [6, 7], [8, 9], [10, 11]])


def test_a_block_has_tokens() -> None:
    with pytest.raises(ValueError, match="block_size"):
        AcceptSpec(0)
