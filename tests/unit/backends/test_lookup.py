"""Prompt lookup against a scan of the whole text, and its draft distribution against rejection sampling's oracle."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspark_engines.backends.lookup import LookupEngine, LookupSpec, OneHotLogits, TextIndex
from dspark_engines.backends.lookup.index import WITNESSES, Proposal
from dspark_engines.bundle.drafters import NGRAM_SCORES
from dspark_engines.sampling import SamplingParams, truncate
from dspark_engines.sampling.accept import accept_step
from dspark_engines.sampling.contract import AcceptInputs
from dspark_plugins.accept.reference import accept

TEXTS = st.lists(st.integers(0, 3), max_size=40)
SPECS = [LookupSpec(), LookupSpec(2, 1), LookupSpec(3, 3)]


def following(text: list[int], end: int, count: int) -> list[int]:
    """Token by token: what is proposed is text for what comes behind it."""
    grown = list(text)
    for index in range(count):
        grown.append(grown[end + 1 + index])
    return grown[len(text) :]


def scan(text: list[int], count: int, spec: LookupSpec) -> Proposal:
    for size in range(spec.longest, spec.shortest - 1, -1):
        ends = [end for end in range(size - 1, len(text) - 1) if text[end + 1 - size : end + 1] == text[-size:]]
        if ends:
            tokens = following(text, ends[-1], count)
            others = [following(text, end, count) for end in ends[-2 : -2 - WITNESSES : -1]]
            same = [sum(other[:n] == tokens[:n] for other in others) for n in range(1, count + 1)]
            return Proposal(tokens, size, [2 * n - len(others) for n in same])
    return Proposal([], 0, [])


@pytest.mark.parametrize("spec", SPECS, ids=str)
@given(text=TEXTS, count=st.integers(1, 7))
@settings(max_examples=150, deadline=None)
def test_it_finds_what_a_scan_finds(spec: LookupSpec, text: list[int], count: int) -> None:
    index = TextIndex(spec)
    index.extend(text)
    assert index.propose(count) == scan(text, count, spec)


@given(steps=st.lists(st.tuples(st.integers(0, 30), TEXTS), max_size=8))
@settings(max_examples=150, deadline=None)
def test_rolling_back_leaves_no_trace(steps: list[tuple[int, list[int]]]) -> None:
    index, text = TextIndex(LookupSpec()), list[int]()
    for length, more in steps:
        text = [*text[:length], *more]
        index.truncate(length)
        index.extend(more)
        assert len(index) == len(text)
        assert index.propose(5) == scan(text, 5, LookupSpec())


@pytest.mark.parametrize("period", [1, 2, 3, 6])
def test_periodic_text_is_continued_beyond_its_end(period: int) -> None:
    text = [token % period for token in range(4 * period + 2)]
    index = TextIndex(LookupSpec())
    index.extend(text)
    assert index.propose(9).tokens == [token % period for token in range(len(text), len(text) + 9)]


@pytest.mark.parametrize(("longest", "shortest"), [(0, 0), (2, 3), (3, 0)])
def test_sizes_that_are_none(longest: int, shortest: int) -> None:
    with pytest.raises(ValueError, match="n-grams of"):
        LookupSpec(longest, shortest)


def draft(engine: LookupEngine, slots: list[TextIndex], texts: list[list[int]], used: list[int], heat: float) -> tuple:
    rows = len(slots)
    features = np.zeros((sum(map(len, texts)), 0), np.float32)  # a target alone gives none
    lengths, anchors = np.array([len(text) for text in texts]), np.array([text[-1] for text in texts])
    heats, uniforms = np.full(rows, heat, np.float32), np.zeros((rows, 3), np.float32)
    return engine.step(
        slots, features, lengths, np.array(used), anchors, heats, uniforms, np.array(list(itertools.chain(*texts)))
    )


def test_rows_are_told_apart_and_rolled_back_by_used() -> None:
    engine = LookupEngine(3, 50, 4)
    slots = [engine.new_slot() for _ in range(3)]
    first = draft(engine, slots, [[5, 6, 7, 5, 6], [8, 9], [1]], [0, 0, 0], 0.0)
    assert first.draft_ids[0].tolist() == [7, 5, 6]
    assert np.isposinf(first.confidence_logits[0]).all()
    assert np.isneginf(first.confidence_logits[1:]).all()
    assert first.draft_logits.shape == (3, 3, 0)
    assert first.scores[0].tolist() == [[2, 0]] * 3
    assert first.scores.shape[-1] == len(NGRAM_SCORES)
    second = draft(engine, slots[::-1], [[1], [8, 8], [7, 5]], [1, 2, 3], 0.0)
    assert second.draft_ids.tolist() == [[1, 1, 1], [8, 8, 8], [6, 7, 7]]


@pytest.mark.parametrize(
    ("heat", "truncation"),
    [(1e-44, {}), (0.3, {}), (40.0, {}), (1.0, {"top_k": 2}), (0.7, {"top_p": 0.6}), (1.0, {"min_p": 0.3})],
    ids=str,
)
def test_one_hot_drafts_keep_the_target_s_distribution(heat: float, truncation: dict[str, float]) -> None:
    """Every pair of uniforms of a fine grid, so that shares are probabilities, to the grid's width."""
    size, grid = 5, 30
    logits = np.array([1.0, 0.2, -1.0, 1.3, -np.inf], np.float32)
    params = SamplingParams(heat, **truncation)
    weights = np.exp((truncate(logits[None], params)[0].astype(np.float64) - logits.max()) / max(heat, 1e-30))
    law = weights / weights.sum()
    for token in range(size):
        found = np.bincount(_first_tokens(logits, token, grid, params), minlength=size) / grid**2
        assert np.abs(found - law).max() < 3 / grid, (token, found, law)
        assert (found[law == 0] == 0).all()


def _first_tokens(logits: np.ndarray, token: int, grid: int, params: SamplingParams) -> np.ndarray:
    """The first token that comes out with `token` drafted, for each pair of uniforms."""
    steps, rows = (np.arange(grid) + 0.5) / grid, grid**2
    pairs = np.array(list(itertools.product(steps, steps)), np.float32)
    uniforms = np.repeat(pairs[:, None], 2, axis=1)
    ids = np.full((rows, 1), token)
    heats = np.full(rows, params.temperature, np.float32)
    inputs = AcceptInputs(ids, OneHotLogits(ids, len(logits)), np.ones(rows, np.int64), heats, uniforms)
    lines = np.repeat(logits[None], 2 * rows, axis=0)
    accepted, following_ids = accept_step(lines, inputs, [params] * rows)
    return np.where(accepted > 0, ids[:, 0], following_ids)


@pytest.mark.parametrize("heat", [0.5, 1.0])
def test_one_hot_drafts_are_accepted_as_the_oracle_says(heat: float) -> None:
    random = np.random.default_rng(0)
    rows, block, size = 40, 3, 30
    ids, lengths = random.integers(0, 6, (rows, block)), random.integers(0, block + 1, rows)
    logits = random.normal(0, 3, (int(lengths.sum()) + rows, size)).astype(np.float32)
    uniforms = random.random((rows, block + 1, 2)).astype(np.float32)
    inputs = AcceptInputs(ids, OneHotLogits(ids, size), lengths, np.full(rows, heat, np.float32), uniforms)
    found = accept_step(logits, inputs)
    wide = np.where(ids[..., None] == np.arange(size), 0.0, -np.inf).astype(np.float32)
    expected = accept(logits, ids, wide, lengths, inputs.temperature, uniforms)
    assert found.accepted.tolist() == expected[0].tolist()
    assert found.next_ids.tolist() == expected[1].tolist()
    assert 0 < (found.accepted < lengths).sum() < rows
