"""What limits an evaluation's figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dspark_export.evaluating.findings import FEW_PROMPTS
from dspark_export.evaluating.plan import EvalPlan
from dspark_export.evaluating.schema import ModeFigures
from dspark_export.evaluating.ways import PLAIN, Way

WANTED = 1.02
"""Plain decoding against itself: further from 1 than this is worth saying."""


def caveats(modes: Sequence[ModeFigures], ways: Sequence[Way], plan: EvalPlan, *, accuracy: bool) -> Iterator[str]:
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
    yield "One request at a time: with many at once, verifying costs more and speculation gains less."
    if accuracy:
        yield from _about_answers(modes[0], plan)


def _about_controls(mode: ModeFigures, ways: Sequence[Way]) -> Iterator[str]:
    for way in ways:
        ratio = mode.way(way.name).overall.ratio
        if way.role != "control" or ratio is None:
            continue
        if not 1 / WANTED <= ratio.mean.value <= WANTED:
            yield (
                f"{mode.mode.capitalize()}: {way.name} came out at {ratio.mean.value:.2f} times plain decoding "
                f"({ratio.mean.low:.2f} to {ratio.mean.high:.2f}), which should be 1: differences in speed as small as "
                "that are not shown by this run."
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


def _about_answers(mode: ModeFigures, plan: EvalPlan) -> Iterator[str]:
    plain = mode.way(PLAIN).overall
    if plain.cut:
        yield (
            f"{plain.cut} of {plain.prompts} outputs were cut at {plan.max_new_tokens} tokens: answers that would have "
            "come later count as wrong. Raise --max-new-tokens."
        )
