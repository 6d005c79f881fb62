"""report.html and the page that compares deployments: one file each, nothing loaded from anywhere."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

from dspark_calibration.report import plots
from dspark_calibration.report.schema import Load, Position, Replayed, Report

PACKAGE = "dspark_calibration.report"


class Picture(NamedTuple):
    """An image, what it shows in words, and its caption."""

    svg: str
    alt: str
    caption: str

    @property
    def source(self) -> str:
        """As a data URI: a page of its own, so that two images never share an id."""
        return "data:image/svg+xml;base64," + base64.b64encode(self.svg.encode("utf-8")).decode("ascii")


def require() -> None:
    """Find out before hours of work that a page cannot be made. Raises `ModuleNotFoundError` (the extra [report])."""
    if find_spec("matplotlib") is None:
        raise ModuleNotFoundError("No module named 'matplotlib'", name="matplotlib")


def render(report: Report) -> str:
    """The page of one deployment. Needs matplotlib and jinja2 (the extra [report])."""
    pictures = {name: picture for name, picture in _pictures(report).items() if picture is not None}
    diagrams = [_diagram(position) for position in report.positions]
    page: str = load_template("report.html.j2").render(
        report=report, pictures=pictures, diagrams=diagrams, replays=all_replays(report)
    )
    return page


def render_comparison(reports: Sequence[Report]) -> str:
    """Several deployments side by side."""
    pictures = [comparison(reports)] if any(report.loads for report in reports) else []
    page: str = load_template("comparison.html.j2").render(reports=reports, pictures=pictures)
    return page


def all_replays(report: Report) -> list[tuple[Load, Replayed, float]]:
    """Every replay with its load and its gain over plain decoding."""
    return [(load, replayed, replayed.realised / load.plain) for load in report.loads for replayed in load.replays]


def comparison(reports: Sequence[Report]) -> Picture:
    """Gain by load, a line for each deployment."""

    def draw(axes: Any) -> None:
        for index, report in enumerate(reports):
            xs = [load.requests for load in report.loads]
            ys = [load.gain for load in report.loads]
            color = (plots.AFTER, plots.BEFORE, plots.THIRD, plots.PLAIN)[index % 4]
            axes.plot(xs, ys, color=color, marker="os^Dvx*P"[index % 8], label=f"{index + 1}: {report.deployment.name}")
        axes.axhline(1.0, color="#111111", linewidth=1)
        axes.set(xlabel="requests at once", ylabel="throughput over plain decoding", ylim=(0, None))
        axes.legend()

    alt = "; ".join(f"{report.deployment.name}: {_gains(report.loads)}" for report in reports)
    return Picture(plots.figure(draw), alt, "Best replayed throughput over plain decoding, by load.")


def _pictures(report: Report) -> dict[str, Picture | None]:
    lengths = ", ".join(f"{s.source} {s.accepted_length.value:.2f}" for s in report.sources)
    shares = ", ".join(f"{p.position}: {p.acceptance:.2f}" for p in report.positions if p.acceptance is not None)
    pictures: dict[str, Picture | None] = {
        "acceptance": Picture(
            plots.acceptance(report.positions),
            f"Share accepted by position: {shares}.",
            "Conditional acceptance: of the rounds that got to a position, the share in which its token was accepted.",
        ),
        "lengths": Picture(
            plots.accepted_lengths(report.sources),
            f"Accepted length by source: {lengths}.",
            "Accepted length: tokens a round when the whole block is verified, the target's own included; "
            "bars show 95% intervals.",
        ),
        "sweep": Picture(
            plots.sweep(report.sweep),
            "Tokens a round against draft tokens verified a round, for thresholds on survival from 0 to 0.95.",
            "Threshold sweep: from right to left the threshold on predicted survival rises from 0 to 0.95. "
            "Higher is better at the same number of tokens verified.",
        ),
    }
    return pictures | (_pictures_of_cost(report) if report.loads else {})


def _pictures_of_cost(report: Report) -> dict[str, Picture | None]:
    verified = "; ".join(f"{load.requests} requests: {load.best.verify_length:.1f}" for load in report.loads)
    return {
        "speedup": Picture(
            plots.speedup(report.loads),
            f"Best gain over plain decoding: {_gains(report.loads)}.",
            "Replayed throughput over plain decoding, by load. Above 1, speculation gains.",
        ),
        "budget": Picture(
            plots.budget(report.loads),
            f"Draft tokens verified a request by the fastest scheduler: {verified}.",
            "Budget against load: how many draft tokens a request the scheduler has verified.",
        ),
        "costs": Picture(
            plots.costs(report),
            "Milliseconds of a verify step by tokens, a line for each number of requests; the table has the values.",
            f"Measured cost of a verify step at a context of about {report.context} tokens, with quartiles.",
        ),
    }


def _diagram(position: Position) -> Picture:
    alt = (
        f"Position {position.position}: predicted against actual survival; calibration error "
        f"{position.before.ece:.1%} before, {position.after.ece:.1%} after."
    )
    return Picture(plots.reliability(position), alt, "")


def _gains(loads: Sequence[Load]) -> str:
    return ", ".join(f"{load.gain:.2f}× at {load.requests}" for load in loads) or "unknown"


def load_template(name: str, package: str = PACKAGE) -> Any:
    """A template of `package`, which may extend those of the report."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader(PACKAGE)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda value: "–" if value is None else f"{100 * value:.2f}%"
    environment.filters["number"] = lambda value, digits=2: "–" if value is None else f"{value:,.{digits}f}"
    return environment.get_template(name)
