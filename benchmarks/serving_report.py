"""What the runs of `serving.py` come to: a table, a verdict on every load, a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from closed_loop import Steady
from dspark_calibration import accepted_length
from dspark_engines import DsparkError
from dspark_engines.errors import OutputError

UNSCHEDULED, SCHEDULED = ("plain", "fixed"), ("threshold", "algorithm1", "async")
MODES = UNSCHEDULED + SCHEDULED
MARKERS = dict(zip(MODES, "os^Dv", strict=True))
FEWEST_TURNS = 3
"""Quartiles of fewer say nothing about noise."""

Runs = Mapping[tuple[int, str], Sequence[Steady]]
"""Runs by (requests at once, mode); the n-th of every mode belong to one turn and served the same requests."""
Quartiles = tuple[float, float, float]


class Cell(NamedTuple):
    """One load and mode. Rates are medians over the turns, the ratio is taken turn by turn."""

    load: int
    mode: str
    tokens_per_second: float
    user_tokens_per_second: float
    ratio_to_plain: Quartiles
    verify_length: float
    accepted_length: float


class Verdict(NamedTuple):
    """A scheduled mode beside the better of plain and fixed at one load, turn by turn.

    `passed`: at least as good within noise, which is to say that the ratio's upper quartile reaches 1; None when
    there were too few turns to tell.
    """

    load: int
    mode: str
    better: str
    ratio: Quartiles
    passed: bool | None


def cells(runs: Runs) -> list[Cell]:
    """One entry for every load and mode, in the order of the runs."""
    return [_cell(runs, load, mode) for load, mode in runs]


def verdicts(runs: Runs) -> list[Verdict]:
    """One entry for every load and scheduled mode."""
    entries = []
    for load in dict.fromkeys(load for load, _ in runs):
        better = max(UNSCHEDULED, key=lambda mode: np.median([run.rate for run in runs[load, mode]]))
        for mode in SCHEDULED:
            ratio = _ratio(runs[load, mode], runs[load, better])
            enough = len(runs[load, mode]) >= FEWEST_TURNS
            entries.append(Verdict(load, mode, better, ratio, ratio[2] >= 1.0 if enough else None))
    return entries


def table(entries: Sequence[Cell], title: str) -> Table:
    """Every cell a row, loads apart."""
    names = ("requests", "mode", "tokens/s", "tokens/s a request", "ratio to plain (quartiles)")
    shown = Table(*names, "verify length", "accepted length", title=title)
    for cell in entries:
        shown.add_row(
            str(cell.load),
            cell.mode,
            f"{cell.tokens_per_second:.1f}",
            f"{cell.user_tokens_per_second:.1f}",
            _quartiles(cell.ratio_to_plain),
            f"{cell.verify_length:.2f}",
            f"{cell.accepted_length:.3f}",
            end_section=cell.mode == MODES[-1],
        )
    return shown


def lines(entries: Sequence[Verdict]) -> list[str]:
    """One line a load."""
    words = {True: "at least as good", False: "worse", None: f"not judged (fewer than {FEWEST_TURNS} turns)"}
    said = []
    for load in dict.fromkeys(entry.load for entry in entries):
        same = [entry for entry in entries if entry.load == load]
        parts = [f"{entry.mode} {_quartiles(entry.ratio)} {words[entry.passed]}" for entry in same]
        said.append(f"{load} at once, beside {same[0].better}: {'; '.join(parts)}")
    return said


def check_figure(path: Path) -> None:
    """Raises before anything is measured when the figure could not be drawn or written afterwards."""
    if not path.parent.is_dir():
        raise OutputError(f"{path}: cannot be written: no such folder", hint="choose another --figure")
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise DsparkError("--figure needs matplotlib", hint="pip install 'dspark-export[bench]'") from None
    known = Figure().canvas.get_supported_filetypes()
    if path.suffix[1:] not in known:
        raise OutputError(f"{path}: not the name of a picture", hint=f"one that ends in .{', .'.join(sorted(known))}")


def write_figure(entries: Sequence[Cell], title: str, path: Path) -> None:
    """Throughput against the speed that one request sees; a line a mode, its points are the loads."""
    from matplotlib.figure import Figure  # heavy

    figure = Figure(figsize=(8.0, 5.5), layout="constrained")
    axes: Any = figure.add_subplot(
        title=title, xlabel="speed of one request, tokens/s", ylabel="throughput of all requests, tokens/s"
    )
    for mode in MODES:
        same = [cell for cell in entries if cell.mode == mode]
        x, y = [cell.user_tokens_per_second for cell in same], [cell.tokens_per_second for cell in same]
        axes.plot(x, y, marker=MARKERS[mode], markersize=8, fillstyle="none", label=mode)
        for cell, *point in zip(same, x, y, strict=True):
            axes.annotate(str(cell.load), point, xytext=(6, 4), textcoords="offset points", fontsize=8)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(title="points: requests at once")
    save_figure(figure, path)


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure of matplotlib, in one rename."""
    partial = path.with_name(f"{path.name}.partial")
    figure.savefig(partial, format=path.suffix[1:], dpi=150)
    partial.replace(path)


def _cell(runs: Runs, load: int, mode: str) -> Cell:
    same = runs[load, mode]
    rounds = [round_ for run in same for round_ in run.rounds]
    return Cell(
        load,
        mode,
        float(np.median([run.rate for run in same])),
        float(np.median([run.user_rate for run in same])),
        _ratio(same, runs[load, "plain"]),
        sum(round_.proposed for round_ in rounds) / len(rounds),
        accepted_length(rounds),
    )


def _ratio(runs: Sequence[Steady], others: Sequence[Steady]) -> Quartiles:
    """Quartiles of the throughput's ratio, turn by turn."""
    ratios = [run.rate / other.rate for run, other in zip(runs, others, strict=True)]
    low, middle, high = (float(x) for x in np.percentile(ratios, (25, 50, 75)))
    return low, middle, high


def _quartiles(values: Quartiles) -> str:
    low, middle, high = values
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"
