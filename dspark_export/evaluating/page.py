"""eval.html: one file, nothing loaded from anywhere."""

from __future__ import annotations

from dspark_calibration.report.page import Picture, load_template
from dspark_export.evaluating import plots
from dspark_export.evaluating.findings import LEAST_PROMPTS
from dspark_export.evaluating.schema import Evaluation, ModeFigures, Pair, WayFigures

PACKAGE = "dspark_export.evaluating"


def render(evaluation: Evaluation) -> str:
    """The page. Needs matplotlib (the extra [report])."""
    pictures = {mode.mode: _pictures(mode) for mode in evaluation.modes}
    template = load_template("evaluation.html.j2", PACKAGE)
    page: str = template.render(evaluation=evaluation, pictures=pictures, least=LEAST_PROMPTS)
    return page


def _pictures(mode: ModeFigures) -> list[Picture]:
    others = [way for way in mode.ways if way.way != mode.ways[0].way]
    drafters = plots.drafting(mode)
    pictures = [
        Picture(
            plots.speeds(others),
            f"Tokens/s over plain decoding: {_speeds(others)}.",
            "Tokens/s over plain decoding of the same prompt. Dots: geometric mean with its 95% interval; bars: the "
            "middle half of the prompts. Plain decoding once more should be at 1.",
        ),
        Picture(
            plots.lengths(drafters),
            f"Tokens a round: {_lengths(drafters)}.",
            "Accepted length with its 95% interval over prompts; small marks are the sources of prompts.",
        ),
        Picture(
            plots.positions(drafters),
            f"Share accepted at each position of those that got there: {_shares(drafters)}.",
            "Conditional acceptance: of the rounds that verified a position with all before it accepted, its share.",
        ),
    ]
    return pictures + (_compared(mode.pairs) if mode.pairs else [])


def _compared(pairs: list[Pair]) -> list[Picture]:
    words = "A dot: these prompts show it; a cross: they do not."
    lengths = [f"{p.first} less {p.second} {p.accepted_length.value:+.2f}" for p in pairs if p.accepted_length]
    speeds = [f"{p.first} over {p.second} {p.speed.value:.2f}" for p in pairs if p.speed]
    return [
        Picture(
            plots.length_differences(pairs),
            f"Differences in tokens a round: {', '.join(lengths) or 'unknown'}.",
            f"Accepted lengths on the same prompts, with 95% intervals. {words}",
        ),
        Picture(
            plots.speed_differences(pairs),
            f"Ratios of tokens/s: {', '.join(speeds) or 'unknown'}.",
            f"Tokens/s on the same prompts, with 95% intervals. {words}",
        ),
    ]


def _speeds(ways: list[WayFigures]) -> str:
    known = [(way.way, way.overall.ratio) for way in ways if way.overall.ratio]
    return ", ".join(f"{name} {ratio.mean.value:.2f}" for name, ratio in known) or "unknown"


def _lengths(ways: list[WayFigures]) -> str:
    known = [(way.way, way.overall.accepted_length) for way in ways if way.overall.accepted_length]
    return ", ".join(f"{name} {length.value:.2f}" for name, length in known) or "unknown"


def _shares(ways: list[WayFigures]) -> str:
    known = [(way.way, [p.acceptance for p in way.overall.positions if p.acceptance is not None]) for way in ways]
    return "; ".join(f"{name} {', '.join(f'{share:.2f}' for share in shares)}" for name, shares in known if shares)
