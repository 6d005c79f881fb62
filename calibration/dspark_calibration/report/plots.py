"""The report's figures as SVG: text stays text, nothing random in them, told apart by shape as well as by colour."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

from dspark_calibration.report.schema import Load, Position, Report, Source, SweepPoint

BEFORE, AFTER, THIRD, PLAIN = "#b3541e", "#1f5fa8", "#3a7d44", "#555555"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "dspark",
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"],
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
SMALL, WIDE = (3.4, 3.3), (4.6, 3.3)


def figure(draw: Callable[[Any], None], size: tuple[float, float] = WIDE) -> str:
    """An SVG of one pair of axes that `draw` fills."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        sheet = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(sheet)
        draw(sheet.subplots())
        buffer = io.StringIO()
        sheet.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def reliability(position: Position) -> str:
    """What was predicted against what came, before and after; dots grow with the number of rounds."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=PLAIN, linestyle=":", label="ideal")
        for bars, color, marker, name, filled in (
            (position.diagram_before, BEFORE, "o", "before", False),
            (position.diagram_after, AFTER, "s", "after", True),
        ):
            total = sum(bar.size for bar in bars) or 1
            said, came = [bar.confidence for bar in bars], [bar.outcome for bar in bars]
            sizes = [12 + 180 * bar.size / total for bar in bars]
            face = color if filled else "white"
            axes.plot(said, came, color=color, linewidth=0.8, linestyle="-" if filled else "--", zorder=2)
            axes.scatter(said, came, sizes, marker=marker, facecolors=face, edgecolors=color, label=name, zorder=3)
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="predicted survival", ylabel="survived", aspect="equal")
        handles = axes.legend(loc="upper left").legend_handles
        for handle in handles[1:]:
            handle.set_sizes([30])

    return figure(draw, SMALL)


def acceptance(positions: Sequence[Position]) -> str:
    """Share accepted of those that got there, by position."""

    def draw(axes: Any) -> None:
        known = [p for p in positions if p.acceptance is not None]
        bars = axes.bar([p.position for p in known], [p.acceptance for p in known], color=AFTER, width=0.7)
        axes.bar_label(bars, [f"{p.acceptance:.2f}" for p in known], padding=2, fontsize=8)
        axes.set(xlabel="position in the block", ylabel="accepted, of those reached", ylim=(0, 1.08))
        axes.set_xticks([p.position for p in positions])
        axes.grid(axis="x", visible=False)

    return figure(draw)


def accepted_lengths(sources: Sequence[Source]) -> str:
    """Tokens a round by source, with 95% intervals."""

    def draw(axes: Any) -> None:
        names = [s.source for s in sources]
        values = [s.accepted_length.value for s in sources]
        errors = [
            [max(0.0, s.accepted_length.value - s.accepted_length.low) for s in sources],
            [max(0.0, s.accepted_length.high - s.accepted_length.value) for s in sources],
        ]
        axes.barh(names, values, xerr=errors, color=AFTER, ecolor="#111111", capsize=4, height=0.55)
        for row, source in enumerate(sources):
            axes.text(source.accepted_length.high + 0.03, row, f"{source.accepted_length.value:.2f}", va="center")
        axes.set(xlabel="tokens a round (1 is plain decoding)", xlim=(0, max([1.0, *values]) * 1.3))
        axes.axvline(1.0, color=PLAIN, linestyle=":")
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)

    return figure(draw, (4.6, 1.2 + 0.55 * max(2, len(sources))))


LINES = {
    ("algorithm1", "raw"): (BEFORE, "o", "--", "algorithm1, raw"),
    ("algorithm1", "sts"): (AFTER, "s", "-", "algorithm1, calibrated"),
    ("async", "sts"): (THIRD, "^", "-", "async, calibrated"),
    ("algorithm1", "oracle"): (PLAIN, "x", ":", "knowing the outcome"),
    ("fixed", "raw"): ("#8a6d00", "D", "-.", "whole block"),
}


def speedup(loads: Sequence[Load]) -> str:
    """Realised throughput over plain decoding, by load."""

    def draw(axes: Any) -> None:
        _lines(axes, loads, lambda load, replayed: replayed.realised / load.plain)
        axes.axhline(1.0, color="#111111", linewidth=1)
        axes.set(ylabel="throughput over plain decoding", ylim=(0, None))

    return figure(draw, (4.6, 4.0))


def budget(loads: Sequence[Load]) -> str:
    """Draft tokens verified a request, by load."""

    def draw(axes: Any) -> None:
        _lines(axes, loads, lambda load, replayed: replayed.verify_length)
        axes.set(ylabel="draft tokens verified a request", ylim=(0, None))

    return figure(draw, (4.6, 4.0))


def _lines(axes: Any, loads: Sequence[Load], value: Callable[[Any, Any], float]) -> None:
    for key, (color, marker, style, name) in LINES.items():
        points = [(load.requests, value(load, r)) for load in loads for r in load.replays if _key(r) == key]
        xs, ys = [x for x, _ in points], [y for _, y in points]
        axes.plot(xs, ys, color=color, marker=marker, linestyle=style, label=name)
    axes.set_xscale("log", base=2)
    ticks = [load.requests for load in loads]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("requests at once")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2)


def _key(replayed: Any) -> tuple[str, str]:
    return replayed.scheduler, replayed.confidences


def costs(report: Report) -> str:
    """Milliseconds of a verify step by tokens, a line for each number of requests."""

    def draw(axes: Any) -> None:
        markers = "os^Dvx*P"
        for index, load in enumerate(sorted({cost.requests for cost in report.costs})):
            same = sorted((c for c in report.costs if c.requests == load), key=lambda c: c.tokens)
            xs, ys = [c.tokens for c in same], [c.verify for c in same]
            color = (BEFORE, AFTER, THIRD, PLAIN)[index % 4]
            axes.fill_between(xs, [c.low for c in same], [c.high for c in same], color=color, alpha=0.15, linewidth=0)
            axes.plot(xs, ys, color=color, marker=markers[index % len(markers)], label=str(load))
        axes.set(xlabel="tokens in the verify step", ylabel="milliseconds", ylim=(0, None))
        axes.legend(title="requests at once")

    return figure(draw)


def sweep(points: Sequence[SweepPoint]) -> str:
    """Accepted length against tokens verified, as the threshold on survival moves."""

    def draw(axes: Any) -> None:
        for form, color, marker, style, name in (
            ("raw", BEFORE, "o", "--", "raw"),
            ("sts", AFTER, "s", "-", "calibrated"),
        ):
            line = [p for p in points if p.confidences == form]
            xs, ys = [p.verify_length for p in line], [p.accepted_length for p in line]
            axes.plot(xs, ys, color=color, marker=marker, markersize=4, linestyle=style, label=name)
        axes.set(xlabel="draft tokens verified a round", ylabel="tokens a round", ylim=(0.95, None))
        axes.legend(loc="lower right")

    return figure(draw)
