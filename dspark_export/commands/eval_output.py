"""What `dspark-export eval` prints for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.table import Table

from dspark_calibration.report import Measured
from dspark_export.commands.console import print_text, table_console
from dspark_export.evaluating.findings import LEAST_PROMPTS
from dspark_export.evaluating.schema import Evaluation, Figures, ModeFigures, Pair, Ratio, WayFigures


def show(evaluation: Evaluation, files: Sequence[Path]) -> None:
    """Tables of every mode, the sentences, what to keep in mind, and what was written."""
    console = table_console()
    for mode in evaluation.modes:
        for table in (_ways(mode), _sources(mode), *([_pairs(mode)] if mode.pairs else [])):
            console.print(table)
        for line in _differences(mode):
            print_text(line)
    for mode in evaluation.modes:
        print_text(mode.verdict)
    for caveat in evaluation.caveats:
        print_text(f"keep in mind: {caveat}")
    for file in files:
        print_text(f"written: {file}")


def _ways(mode: ModeFigures) -> Table:
    names = ["way", "tokens a round (95%)", "tokens/s", "÷ plain, mean (95%)", "÷ plain, median (quartiles)"]
    names += ["first token, ms", "wasted a token"]
    names += ["identical"] if mode.mode == "greedy" else []
    names += ["right answers"] if mode.ways[0].accuracy is not None else []
    table = Table(*names, title=f"{mode.mode}, {mode.prompts} prompts")
    for way in mode.ways:
        table.add_row(*_row(way, mode))
    return table


def _row(way: WayFigures, mode: ModeFigures) -> list[str]:
    figures, ratio = way.overall, way.overall.ratio
    spread = "–" if ratio is None else f"{ratio.median:.2f} ({ratio.low_quartile:.2f}–{ratio.high_quartile:.2f})"
    cells = [way.way, _interval(figures.accepted_length, figures.prompts), _rate(figures), _mean(ratio)]
    cells += [spread, f"{1000 * figures.first_token_seconds:.0f}", _number(figures.wasted)]
    if mode.mode == "greedy":
        cells.append(_identical(way))
    if way.accuracy is not None:
        cells.append(f"{way.accuracy.correct} of {way.accuracy.prompts}")
    return cells


def _sources(mode: ModeFigures) -> Table:
    table = Table(
        "way",
        "source",
        "prompts",
        "tokens a round (95%)",
        "÷ plain, mean (95%)",
        "wasted a token",
        "accepted at position 1, 2, … of those that got there",
    )
    for way in mode.ways:
        for figures in [way.overall, *way.sources] if way.overall.positions else []:
            shares = " ".join(_number(position.acceptance) for position in figures.positions)
            length = _interval(figures.accepted_length, figures.prompts)
            counted = (way.way, figures.source, str(figures.prompts))
            table.add_row(*counted, length, _mean(figures.ratio), _number(figures.wasted), shares)
    return table


def _pairs(mode: ModeFigures) -> Table:
    table = Table("on the same prompts", "tokens a round, difference (95%)", "shown", "tokens/s, ratio (95%)", "shown")
    for pair in mode.pairs:
        table.add_row(*_pair(pair))
    return table


def _pair(pair: Pair) -> list[str]:
    shown = ["yes" if told else "no" for told in (pair.accepted_shown, pair.speed_shown)]
    return [
        f"{pair.first} against {pair.second}",
        _interval(pair.accepted_length, pair.prompts),
        shown[0],
        _interval(pair.speed, pair.prompts),
        shown[1],
    ]


def _differences(mode: ModeFigures) -> Iterator[str]:
    for way in mode.ways:
        for d in way.identity.differences if way.identity else []:
            kind, gap = "tie" if d.tie else "DIFFERENCE", "not a number" if d.gap is None else f"{d.gap:.2g}"
            where = f"{way.way}, prompt {d.prompt}, token {d.position}"
            yield f"{kind}: {where}: plain {d.plain}, speculative {d.speculative}, gap {gap}"


def _identical(way: WayFigures) -> str:
    if way.identity is None:
        return ""
    ties = f", {way.identity.ties} ties" if way.identity.ties else ""
    return f"{way.identity.identical} of {way.identity.prompts}{ties}"


def _interval(measured: Measured | None, prompts: int) -> str:
    """The interval only where there are prompts enough for one."""
    if measured is None:
        return "–"
    bounds = f" ({measured.low:.2f}–{measured.high:.2f})" if prompts >= LEAST_PROMPTS else ""
    return f"{measured.value:.2f}{bounds}"


def _mean(ratio: Ratio | None) -> str:
    return "–" if ratio is None else _interval(ratio.mean, ratio.prompts)


def _rate(figures: Figures) -> str:
    return "–" if figures.tokens_per_second is None else f"{figures.tokens_per_second:.1f}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
