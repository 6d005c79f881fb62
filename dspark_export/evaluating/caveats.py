"""What limits an evaluation's figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dspark_engines.bundle import NONE
from dspark_export.evaluating.conditions import Conditions
from dspark_export.evaluating.findings import FEW_PROMPTS
from dspark_export.evaluating.schema import ModeFigures
from dspark_export.evaluating.ways import PLAIN, Way

NEAR, NARROW = 1.02, 1.1
"""Plain decoding against itself: worth saying when it is further from 1, or its interval's ends from each other."""


def caveats(
    modes: Sequence[ModeFigures], ways: Sequence[Way], conditions: Conditions, *, accuracy: bool
) -> Iterator[str]:
    """What to keep in mind, most important first."""
    if modes[0].prompts < FEW_PROMPTS:
        yield f"Only {modes[0].prompts} prompts: the intervals are rough."
    for mode in modes:
        yield from _about_controls(mode, ways)
        yield from _about_drafts(mode, ways)
    comparisons = sum(2 * len(mode.pairs) for mode in modes)
    if comparisons > 2:
        yield (
            f"Each interval is one of 95% by itself. Of {comparisons} comparisons between equals, "
            f"{0.05 * comparisons:.1g} would be shown by chance."
        )
    if len({way.place for way in ways}) > 1:
        yield (
            "Each bundle's drafters run on its own engines, and ratios are taken to plain decoding of the first "
            "bundle: of two sets of engines of one target one is some percent faster. The other bundles' own plain "
            "decoding says by how much."
        )
    yield from _about_plans(conditions)
    yield "One request at a time: with many at once, verifying costs more and speculation gains less."
    if accuracy:
        yield from _about_answers(modes[0], conditions.max_new_tokens)


def _about_controls(mode: ModeFigures, ways: Sequence[Way]) -> Iterator[str]:
    for way in ways:
        ratio = mode.way(way.name).overall.ratio
        if way.role != "control" or ratio is None:
            continue
        mean, where = ratio.mean, f"{mode.mode.capitalize()}: {way.name}"
        against = f"{where} came out at {mean.value:.2f} times plain decoding ({mean.low:.2f} to {mean.high:.2f})"
        if not 1 / NEAR <= mean.value <= NEAR:
            yield f"{against}, which should be 1: differences in speed as small as that are not shown by this run."
        elif mean.high > NARROW * mean.low:
            yield f"{against}: timings vary much on this machine, and only large differences in speed can be shown."


def _about_plans(conditions: Conditions) -> Iterator[str]:
    drafters = [way for way in conditions.ways if way.drafter != NONE]
    without = [way.name for way in drafters if not way.measured]
    if without and len(without) < len(drafters):
        yield (
            f"What steps cost is not measured for {', '.join(without)}: whole blocks are verified there, and what pays "
            "for the others. For an equal footing: dspark-export profile BUNDLE --drafter NAME, or --scheduler fixed."
        )


def _about_drafts(mode: ModeFigures, ways: Sequence[Way]) -> Iterator[str]:
    for way in ways:
        found = mode.way(way.name).overall
        if not way.speculates:
            continue
        if not found.verified:
            yield f"{mode.mode.capitalize()}: {way.name} drafted nothing, so equal output says nothing about it."
        elif found.rejected == found.verified:
            yield f"{mode.mode.capitalize()}: nothing that {way.name} drafted was accepted."


def _about_answers(mode: ModeFigures, limit: int) -> Iterator[str]:
    plain = mode.way(PLAIN).overall
    if plain.cut:
        yield (
            f"{plain.cut} of {plain.prompts} outputs were cut at {limit} tokens: answers that would have "
            "come later count as wrong. Raise --max-new-tokens."
        )
