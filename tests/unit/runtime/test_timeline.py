"""Idle share and overlap of engines that several cohorts share."""

from __future__ import annotations

import random

import pytest

from dspark_engines.runtime.serving.timeline import KEPT, Span, Timeline


def timeline(*spans: tuple[str, float, float]) -> Timeline:
    made = Timeline()
    made.spans.extend(Span(engine, 0, begin, end) for engine, begin, end in sorted(spans, key=lambda span: span[2]))
    return made


def test_nothing_ran() -> None:
    empty = timeline()
    assert (empty.seconds(), empty.idle_share("draft"), empty.overlap_seconds()) == (0, 0, 0)


def test_shares_of_the_time_from_the_first_step_to_the_last() -> None:
    made = timeline(("draft", 1, 2), ("verify", 2, 4), ("draft", 3, 5))
    assert made.seconds() == 4
    assert made.idle_share("draft") == 0.25
    assert made.idle_share("verify") == 0.5
    assert made.overlap_seconds() == 1


@pytest.mark.parametrize("seed", range(20))
def test_overlap_is_that_of_all_pairs(seed: int) -> None:
    rng = random.Random(seed)
    spans = []
    for engine in ("draft", "verify"):
        ends = sorted(rng.randrange(1000) for _ in range(2 * rng.randrange(30)))
        spans += [(engine, a, b) for a, b in zip(ends[::2], ends[1::2], strict=True)]
    pairs = [(a, b) for a in spans for b in spans if (a[0], b[0]) == ("draft", "verify")]
    expected = sum(max(0, min(a[2], b[2]) - max(a[1], b[1])) for a, b in pairs)
    assert timeline(*spans).overlap_seconds() == expected


def test_a_long_run_is_summed_up_in_one_pass() -> None:
    """All pairs of what is kept would be 600 million."""
    spans = [(engine, float(n), n + 0.75) for n in range(KEPT // 2) for engine in ("draft", "verify")]
    assert timeline(*spans).overlap_seconds() == 0.75 * KEPT / 2
