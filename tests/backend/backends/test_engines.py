"""Compiled engines: against the exported graphs, and rows against the same rows alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from dspark_engines.backends import EngineOptions, Engines, get_backend
from dspark_engines.bundle import Bundle, Limits, open_bundle
from dspark_engines.errors import BackendError
from dspark_export.bundling import BuildPlan, Silent, build_bundle
from dspark_export.checks import compare, compare_engines
from tests.support import tiny

CONTEXT = 48


class Opened(NamedTuple):
    bundle: Bundle
    engines: Engines


def build(
    root: Path, slots: int, *, context: int = CONTEXT, architecture: str = "llama", kind: str = "vanilla"
) -> Bundle:
    target = tiny.write_target(root / "target", tiny.target_spec(architecture, tied=architecture == "llama"))
    drafter = tiny.write_drafter(root / "drafter", tiny.drafter_spec(kind))
    limits = Limits(context_length=context, prefill_chunk=16, slots=slots)
    build_bundle(BuildPlan(target, drafter, root / "bundle", "onnxruntime", limits), Silent())
    return open_bundle(root / "bundle")


@pytest.fixture(scope="module", params=["vanilla", "rnn"])
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    """Engines for up to four rows: programs for one, two and four, so that three rows are filled up."""
    bundle = build(tmp_path_factory.mktemp("engines"), 4, kind=request.param)
    with get_backend("onnxruntime").open(bundle, EngineOptions(threads=1)) as engines:
        yield Opened(bundle, engines)


def verify(engines: Engines, slots: list[Any], texts: list[list[int]], used: list[int]) -> list[Any]:
    """One step; (logits, features) of every row. Rows get the logits of all their tokens."""
    lengths = np.array([len(text) for text in texts])
    out = engines.verify.step(slots, np.concatenate(texts), lengths, np.array(used), np.arange(lengths.sum()))
    cuts = np.cumsum(lengths)[:-1]
    return list(zip(np.split(out.logits.copy(), cuts), np.split(out.features.copy(), cuts), strict=True))


def draft(engines: Engines, slots: list[Any], parts: list[np.ndarray], used: list[int], rows: list[int]) -> list[Any]:
    """One step; (ids, confidence, logits) of every row. `rows` number the requests, whatever they are batched with."""
    streams = [np.random.default_rng(pair) for pair in zip(rows, used, strict=True)]
    out = engines.draft.step(
        slots,
        np.concatenate(parts),
        np.array([len(part) for part in parts]),
        np.array(used),
        np.array([10 + row for row in rows]),
        np.array([0.6 * (row % 2) for row in rows], np.float32),
        np.stack([stream.random(tiny.BLOCK, np.float32) for stream in streams]),
    )
    return [tuple(np.array(array)[row] for array in out[:3]) for row in range(len(slots))]


@pytest.mark.parametrize("context", [16, CONTEXT])
@pytest.mark.parametrize(("architecture", "kind"), [("llama", "none"), ("llama", "gated"), ("qwen3", "rnn")])
def test_engines_compute_what_the_graphs_say(architecture: str, kind: str, context: int, tmp_path: Path) -> None:
    bundle = build(tmp_path, 1, context=context, architecture=architecture, kind=kind)
    with get_backend("onnxruntime").open(bundle, EngineOptions(threads=1)) as engines:
        results = compare_engines(bundle, engines)
    assert {result.what for result in results} == {
        "target.logits",
        "target.features",
        "drafter.draft_ids",
        "drafter.draft_logits",
        "drafter.confidence_logits",
        "accept.accepted",
        "accept.next_ids",
    }
    assert all(result.passed for result in results), results


# Every step's rows (request numbers, in slot order): all three, two that swap places, one alone, a filled-up program.
BATCHES = [[0, 1, 2], [1, 0], [2], [2, 1], [0, 2, 1], [1]]


def step_in_company(engines: Engines, lone: Engines, *, greedy_logits: bool) -> None:
    """Requests step in changing company on `engines`; each is compared with itself alone on `lone`.

    Slots are never cleared. Without `greedy_logits` a step of greedy rows has no draft logits.
    """
    random = np.random.default_rng(0)
    together = [(engines.verify.new_slot(), engines.draft.new_slot()) for _ in range(3)]
    alone = [(lone.verify.new_slot(), lone.draft.new_slot()) for _ in range(3)]
    used = [0, 0, 0]
    for number, rows in enumerate(BATCHES):
        counts = [int(random.integers(1, 9)) for _ in rows]
        texts = [random.integers(0, tiny.VOCAB, count).tolist() for count in counts]
        before = [used[row] for row in rows]
        batch = verify(engines, [together[row][0] for row in rows], texts, before)
        single = [verify(lone, [alone[r][0]], [text], [used[r]])[0] for r, text in zip(rows, texts, strict=True)]
        for (logits, features), (logits_1, features_1) in zip(batch, single, strict=True):
            assert compare("target.logits", logits, logits_1).passed
            assert compare("target.features", features, features_1).passed
        parts = [features for _, features in single]
        drafts = draft(engines, [together[row][1] for row in rows], parts, before, rows)
        for row, part, ours in zip(rows, parts, drafts, strict=True):
            ids, confidence, logits = draft(lone, [alone[row][1]], [part], [used[row]], [row])[0]
            assert ours[0].tolist() == ids.tolist()
            assert compare("drafter.confidence_logits", ours[1], confidence).passed
            assert logits.size == ours[2].size * (greedy_logits or row % 2)  # row 1 has a temperature
            assert not logits.size or compare("drafter.draft_logits", ours[2], logits).passed
        for row, count in zip(rows, counts, strict=True):
            used[row] += max(count - number % 3, 0)  # some rounds are rolled back in part


def test_a_row_does_not_see_its_neighbours(opened: Opened) -> None:
    step_in_company(opened.engines, opened.engines, greedy_logits=True)


def test_a_dropped_slots_place_is_not_taken_for_it(opened: Opened) -> None:
    """A new slot may get the memory, even the id, of one that was dropped."""
    step, new_slot = verify, opened.engines.verify.new_slot
    text, other = [9, 10, 11, 12], [1, 2, 3]
    expected = step(opened.engines, [new_slot()], [text], [0])[0][0][-1]
    for _ in range(30):
        dropped = new_slot()
        step(opened.engines, [dropped], [other], [0])
        del dropped
        slots = [new_slot() for _ in range(4)]
        for slot in slots:
            step(opened.engines, [slot], [text[:3]], [0])
        step(opened.engines, [new_slot()], [other], [0])
        for slot in slots:
            actual = step(opened.engines, [slot], [text[3:]], [3])[0][0][-1]
            assert compare("target.logits", actual, expected).passed


def test_rows_change_places_and_lengths_from_step_to_step(opened: Opened) -> None:
    """What stays bound from the step before is right: some rows stay, some move, shapes go and come back."""
    engines, random = opened.engines, np.random.default_rng(7)
    texts = [random.integers(0, tiny.VOCAB, 12).tolist() for _ in range(3)]
    alone = [verify(engines, [engines.verify.new_slot()], [text], [0])[0] for text in texts]
    slots, used = [engines.verify.new_slot() for _ in texts], [0, 0, 0]
    for order, count in (((0, 1), 3), ((1, 0), 3), ((0, 2), 3), ((0, 1), 2), ((2, 1), 3)):
        parts = [texts[row][used[row] : used[row] + count] for row in order]
        got = verify(engines, [slots[row] for row in order], parts, [used[row] for row in order])
        for row, outputs in zip(order, got, strict=True):
            for ours, theirs in zip(outputs, alone[row], strict=True):
                np.testing.assert_allclose(ours, theirs[used[row] : used[row] + count], atol=1e-4)
            used[row] += count


def test_outputs_outlive_the_next_step(opened: Opened) -> None:
    """Two cohorts take turns on an engine, and one decides about its drafts while the other drafts."""
    engine, step = opened.engines.verify, np.array([3])
    ids = np.array([1, 2, 3])
    first = engine.step([engine.new_slot()], ids, step, np.array([0]), np.arange(3))
    kept = first.logits.copy(), first.features.copy()
    for _ in range(3):
        engine.step([engine.new_slot()], ids + 1, step, np.array([0]), np.arange(3))
    assert np.array_equal(first.logits, kept[0])
    assert np.array_equal(first.features, kept[1])


def test_more_rows_than_built_for_are_refused(opened: Opened) -> None:
    engines = opened.engines
    assert engines.verify.max_rows == engines.draft.max_rows == 4
    with pytest.raises(BackendError, match="5 rows in one step, the engines were built for 4"):
        verify(engines, [engines.verify.new_slot()] * 5, [[5]] * 5, [0] * 5)
    features = np.zeros((1, 2 * tiny.HIDDEN), np.float32)
    with pytest.raises(BackendError, match="5 rows"):
        draft(engines, [engines.draft.new_slot()] * 5, [features] * 5, [0] * 5, [0] * 5)


def test_full_capacity(opened: Opened) -> None:
    """The last token of a full context, and the block drafted behind it, still fit."""
    engines, random = opened.engines, np.random.default_rng(1)
    slots = engines.verify.new_slot(), engines.draft.new_slot()
    text = random.integers(0, tiny.VOCAB, CONTEXT).tolist()
    logits, features = verify(engines, [slots[0]], [text], [0])[0]
    assert logits.shape == (CONTEXT, tiny.VOCAB)
    again = verify(engines, [slots[0]], [text[-1:]], [CONTEXT - 1])[0][0]
    assert compare("target.logits", again, logits[-1:]).passed
    whole = draft(engines, [slots[1]], [features], [0], [0])[0]
    part = draft(engines, [slots[1]], [features[-1:]], [CONTEXT - 1], [0])[0]
    assert whole[0].tolist() == part[0].tolist()
    assert compare("drafter.draft_logits", whole[2], part[2]).passed
