"""The page's figures, in the report's style: told apart by shape as well as by colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dspark_calibration.report import Measured
from dspark_calibration.report.plots import AFTER, BEFORE, PLAIN, THIRD, figure
from dspark_export.evaluating.schema import ModeFigures, Pair, WayFigures

COLORS = (AFTER, BEFORE, THIRD, "#8a6d00", "#7a3b8f", PLAIN)
MARKERS = "os^Dvx*P"
ROW = 0.42
"""Inches of a line."""


def speeds(ways: Sequence[WayFigures]) -> str:
    """Tokens/s over plain decoding: the geometric mean with its interval, and the quartiles of prompts as a bar."""
    known = [(way.way, way.overall.ratio) for way in ways if way.overall.ratio is not None]

    def draw(axes: Any) -> None:
        for row, (_, ratio) in enumerate(known):
            axes.barh(row, ratio.high_quartile - ratio.low_quartile, 0.5, ratio.low_quartile, color=AFTER, alpha=0.25)
            _interval(axes, row, ratio.mean, AFTER, "o")
        axes.axvline(1.0, color="#111111", linewidth=1)
        axes.set(xlabel="tokens/s over plain decoding")
        _rows(axes, [name for name, _ in known])

    return figure(draw, (4.6, 1.1 + ROW * max(2, len(known))))


def lengths(ways: Sequence[WayFigures]) -> str:
    """Tokens a round: all prompts with the interval, and every source as a mark."""
    known = [way for way in ways if way.overall.accepted_length is not None]

    def draw(axes: Any) -> None:
        for row, way in enumerate(known):
            for number, source in enumerate(way.sources):
                if source.accepted_length is not None:
                    color, marker = COLORS[(number + 1) % len(COLORS)], MARKERS[(number + 1) % len(MARKERS)]
                    label = source.source if not row else None
                    axes.plot(source.accepted_length.value, row + 0.22, marker, color=color, markersize=5, label=label)
            if way.overall.accepted_length is not None:
                _interval(axes, row, way.overall.accepted_length, AFTER, "o")
        axes.axvline(1.0, color=PLAIN, linestyle=":")
        axes.set(xlabel="tokens a round (1 is plain decoding)")
        _rows(axes, [way.way for way in known])
        if known:
            axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.32), ncols=3)

    return figure(draw, (4.6, 1.7 + ROW * max(2, len(known))))


def positions(ways: Sequence[WayFigures]) -> str:
    """Conditional acceptance by position, a line for each drafter."""

    def draw(axes: Any) -> None:
        for number, way in enumerate(ways):
            known = [(p.position, p.acceptance) for p in way.overall.positions if p.acceptance is not None]
            style: dict[str, Any] = {
                "color": COLORS[number % len(COLORS)],
                "marker": MARKERS[number % len(MARKERS)],
                "linestyle": ("-", "--", "-.", ":")[number % 4],
            }
            axes.plot([x for x, _ in known], [y for _, y in known], label=way.way, **style)
        longest = max((len(way.overall.positions) for way in ways), default=1)
        axes.set(xlabel="position in the block", ylabel="accepted, of those reached", ylim=(0, 1.03))
        axes.set_xticks(range(1, longest + 1))
        axes.legend()

    return figure(draw)


def length_differences(pairs: Sequence[Pair]) -> str:
    """Accepted lengths of two drafters, one less the other, with intervals."""
    found = [(pair, pair.accepted_length, pair.accepted_shown) for pair in pairs]
    return _differences(found, 0.0, "difference in tokens a round")


def speed_differences(pairs: Sequence[Pair]) -> str:
    """Tokens/s of two drafters, one over the other, with intervals."""
    return _differences([(pair, pair.speed, pair.speed_shown) for pair in pairs], 1.0, "ratio of tokens/s")


def drafting(mode: ModeFigures) -> list[WayFigures]:
    """The ways that draft."""
    return [way for way in mode.ways if way.overall.positions]


def _differences(found: Sequence[tuple[Pair, Measured | None, bool]], nothing: float, label: str) -> str:
    known = [(pair, measured, shown) for pair, measured, shown in found if measured is not None]

    def draw(axes: Any) -> None:
        for row, (_, measured, shown) in enumerate(known):
            _interval(axes, row, measured, AFTER if shown else PLAIN, "o" if shown else "x")
        axes.axvline(nothing, color="#111111", linewidth=1)
        axes.set(xlabel=label)
        _rows(axes, [f"{pair.first}\nagainst {pair.second}" for pair, _, _ in known])

    return figure(draw, (4.6, 1.1 + 1.4 * ROW * max(2, len(known))))


def _interval(axes: Any, row: float, measured: Measured, color: str, marker: str) -> None:
    errors = [[max(0.0, measured.value - measured.low)], [max(0.0, measured.high - measured.value)]]
    axes.errorbar([measured.value], [row], xerr=errors, color=color, marker=marker, capsize=4)


def _rows(axes: Any, names: Sequence[str]) -> None:
    axes.use_sticky_edges = False  # a bar would otherwise end the axis where it ends
    axes.margins(x=0.08)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, max(len(names), 1) - 0.4)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
