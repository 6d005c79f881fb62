"""The Markov head's kernels under Triton's interpreter, against the NumPy oracle: tokens exactly, the rest by table."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from dspark_plugins.markov_head import MarkovHeadSpec
from dspark_plugins.markov_head.reference import MarkovHeadResult, markov_head
from dspark_plugins.markov_head.steps import FEW_ROWS, TILE
from tests.support.markov_cases import LAST, ZERO, Feeds, assert_same, feeds_for, off_the_edges, tamed, weights_for
from tests.support.triton_worker import Worker, WorkerError

KINDS = ("vanilla", "gated", "rnn")


class Case(NamedTuple):
    """Sizes of one head and its batch."""

    kind: str
    rows: int
    block: int
    vocab: int
    rank: int
    confidence: str = "with"

    def head(self) -> MarkovHeadSpec:
        hidden, on = 12, self.confidence != "off"
        return MarkovHeadSpec(self.kind, self.block, self.rank, hidden, on, self.confidence == "with")  # type: ignore[arg-type]


CASES = [
    Case("vanilla", 1, 1, TILE - 1, 16),
    Case("vanilla", 2, 3, TILE, 24, "without"),
    Case("vanilla", 3, 2, 2 * TILE + 1, 33, "off"),
    Case("vanilla", 1, 16, 3 * TILE + 7, 16),
    Case("vanilla", 8, 1, TILE + 1, 64),
    Case("vanilla", FEW_ROWS + 1, 2, 2 * TILE + 5, 20),  # as a matrix product, rows filled up
    Case("gated", 2, 2, TILE + 9, 18),
    Case("gated", FEW_ROWS + 1, 2, TILE + 1, 16, "without"),
    Case("rnn", 2, 2, TILE + 9, 18),
    Case("rnn", FEW_ROWS + 1, 1, TILE + 1, 16, "off"),
]
SLOW = [Case(kind, rows, block, 300, rank) for kind in KINDS for rows, block, rank in ((8, 7, 256), (3, 16, 100))]


def run(worker: Worker, head: MarkovHeadSpec, feeds: Feeds, weights: Feeds, sampling: bool) -> MarkovHeadResult:
    """The kernels' result; a greedy head's missing draft_logits are the oracle's."""
    result: MarkovHeadResult = worker.call("tests.support.kernel_runs:markov", head, feeds | weights, sampling)
    assert result.draft_ids.dtype == np.int64
    if sampling:
        return result
    assert result.draft_logits.shape[2] == 0
    return result._replace(draft_logits=markov_head(head, **feeds, weights=weights).draft_logits)


def check(worker: Worker, case: Case, seed: int) -> None:
    head, weights = case.head(), tamed(weights_for(case.head(), case.vocab, seed))
    mixed = np.resize([0.0, 0.7, 1.3], case.rows)
    for sampling, temperature in ((False, np.zeros(case.rows)), (True, mixed if case.rows > 1 else np.ones(1))):
        feeds = feeds_for(head, temperature, seed, case.vocab)
        expected = markov_head(head, **feeds, weights=weights)
        assert off_the_edges(feeds, expected)
        assert assert_same(feeds, run(worker, head, feeds, weights, sampling), expected) == 0


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_kernels_draft_what_the_oracle_drafts(interpreter: Worker, case: Case) -> None:
    check(interpreter, case, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW, ids=lambda case: "-".join(map(str, case)))
def test_kernels_draft_what_the_oracle_drafts_at_full_rank(interpreter: Worker, case: Case) -> None:
    check(interpreter, case, seed=2)


@pytest.mark.parametrize("rows", [2, FEW_ROWS + 1])
def test_equal_logits_go_to_the_lowest_id(interpreter: Worker, rows: int) -> None:
    """Ties within a tile and across tiles; the ends of the unit interval draw the first and the last possible."""
    head, vocab = Case("gated", rows, 1, 4 * TILE, 16).head(), 4 * TILE
    weights = {name: np.zeros_like(array) for name, array in weights_for(head, vocab).items()}
    feeds = feeds_for(head, np.resize([0.0, 0.5], rows), 0, vocab)
    feeds["base_logits"][:] = -np.inf  # the first tile and the last hold nothing at all
    feeds["base_logits"][:, :, [40, 47, 70, 71]] = 4.0
    for uniform, token in ((ZERO, 40), (LAST, 71)):
        feeds["uniforms"][:] = uniform
        actual = run(interpreter, head, feeds, weights, sampling=True)
        np.testing.assert_array_equal(actual.draft_ids[:, 0], np.resize([40, token], rows))
        np.testing.assert_array_equal(actual.draft_ids, markov_head(head, **feeds, weights=weights).draft_ids)
        assert np.isneginf(actual.draft_logits[:, :, :40]).all()
    feeds["temperature"][:] = 0
    assert (run(interpreter, head, feeds, weights, sampling=False).draft_ids == 40).all()


@pytest.mark.parametrize("kind", ["vanilla", "rnn"])
def test_impossible_tokens_are_never_drafted(interpreter: Worker, kind: str) -> None:
    case = Case(kind, 3, 2, 2 * TILE + 3, 16, "off")
    head, weights = case.head(), tamed(weights_for(case.head(), case.vocab))
    feeds = feeds_for(head, [0.0, 0.6, 2.0], 3, case.vocab)
    feeds["base_logits"][:, :, :TILE] = -np.inf
    feeds["base_logits"][:, :, TILE + 20 :] = -np.inf
    for uniforms in (ZERO, LAST, feeds["uniforms"].copy()):
        feeds["uniforms"][:] = uniforms
        actual = run(interpreter, head, feeds, weights, sampling=True)
        np.testing.assert_array_equal(actual.draft_ids, markov_head(head, **feeds, weights=weights).draft_ids)
        assert TILE <= actual.draft_ids.min() <= actual.draft_ids.max() < TILE + 20


def test_a_tiny_temperature_is_the_arg_max(interpreter: Worker) -> None:
    case = Case("vanilla", 2, 2, TILE + 5, 16, "off")
    head, weights = case.head(), tamed(weights_for(case.head(), case.vocab))
    feeds = feeds_for(head, [2e-38, 1e-6], 3, case.vocab)
    expected = markov_head(head, **feeds | {"temperature": np.zeros(2, np.float32)}, weights=weights)
    actual = run(interpreter, head, feeds, weights, sampling=True)
    np.testing.assert_array_equal(actual.draft_ids, expected.draft_ids)


@pytest.mark.parametrize("rows", [2, FEW_ROWS + 1])
def test_nan_leads_to_no_index_outside_the_vocabulary(interpreter: Worker, rows: int) -> None:
    """The next step reads W1 there."""
    case = Case("vanilla", rows, 2, TILE + 5, 16, "off")
    head, weights = case.head(), tamed(weights_for(case.head(), case.vocab))
    for where in (slice(None), slice(3, 4), slice(TILE, None)):
        feeds = feeds_for(head, np.resize([0.0, 0.9], rows), 4, case.vocab)
        feeds["base_logits"][:, :, where] = np.nan
        for sampling in (True, False):
            arrays = feeds | weights
            ids = interpreter.call("tests.support.kernel_runs:markov", head, arrays, sampling).draft_ids
            assert 0 <= ids.min() <= ids.max() < case.vocab


@pytest.mark.parametrize("rows", [2, FEW_ROWS + 1])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_weights(interpreter: Worker, kind: str, rows: int) -> None:
    """Weights in float16 are the same numbers in float32: the oracle gets those."""
    case = Case(kind, rows, 1, TILE + 5, 16, "off")
    head = case.head()
    weights = {
        name: w.astype(np.float16).astype(np.float32) for name, w in tamed(weights_for(head, case.vocab)).items()
    }
    feeds = feeds_for(head, np.resize([0.0, 0.9], rows), 4, case.vocab)
    expected = markov_head(head, **feeds, weights=weights)
    actual = interpreter.call("tests.support.kernel_runs:markov", head, feeds | weights, True, weights="fp16")
    assert off_the_edges(feeds, expected)
    assert assert_same(feeds, actual, expected) == 0


def test_rows_do_not_see_each_other(interpreter: Worker) -> None:
    """Whatever the other rows hold, NaN included. Shapes stay: NumPy, under the interpreter, rounds by position."""
    case = Case("gated", 3, 2, TILE + 5, 16)
    head, weights = case.head(), tamed(weights_for(case.head(), case.vocab))
    feeds = feeds_for(head, [0.0, 1.0, 0.8], 6, case.vocab)
    together = run(interpreter, head, feeds, weights, sampling=True)
    for row in range(3):
        others = {name: among_strangers(array, row) for name, array in feeds.items()}
        changed = run(interpreter, head, others, weights, sampling=True)
        np.testing.assert_array_equal(changed.draft_ids[row], together.draft_ids[row])
        np.testing.assert_array_equal(changed.draft_logits[row], together.draft_logits[row])
        assert not np.array_equal(changed.draft_logits, together.draft_logits, equal_nan=True)


def among_strangers(array: np.ndarray, row: int) -> np.ndarray:
    """The same with other rows around `row`: NaN where there are floats, other ids and settings elsewhere."""
    changed = array[::-1].copy() if array.ndim == 1 or array.dtype.kind != "f" else np.full_like(array, np.nan)
    changed[row] = array[row]
    return changed


def test_the_interpreter_is_on_trial_and_says_what_went_wrong(interpreter: Worker) -> None:
    assert interpreter.call("tests.support.kernel_runs:interpreted")
    head = Case("vanilla", 1, 1, TILE, 16).head()
    with pytest.raises(WorkerError, match="KeyError: 'base_logits'"):
        interpreter.call("tests.support.kernel_runs:markov", head, {}, True)
