"""`dspark-export profile`: what a step costs here, and whether speculation can pay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import click
from rich.table import Table

from dspark_engines.backends import EngineOptions
from dspark_engines.bundle import check_folder
from dspark_engines.measured import (
    COST_TABLE,
    BreakEven,
    CostTable,
    Noise,
    break_even,
    is_flat,
    noise_of,
)
from dspark_engines.profiling import profile_bundle, profile_plan
from dspark_export.commands.console import print_json, print_text, reporting, table_console
from dspark_export.commands.drafters import drafter_option, open_seen
from dspark_export.commands.help import command as styled
from dspark_export.commands.options import backend_option, bundle_argument, json_option, threads_option
from dspark_export.commands.placement import placement_line, placement_table


@styled("profile", "Measure what steps cost on this machine.")
@bundle_argument
@click.option("--context", "contexts", type=click.IntRange(min=1), multiple=True, help="Context lengths to measure.")
@click.option(
    "--rows", type=click.IntRange(min=1), multiple=True, help="Batch sizes to measure (default: all compiled sizes)."
)
@click.option("--samples", type=click.IntRange(min=3), default=7, help="Minimum timings of each kind of step.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=8.0,
    help="Keep timing each configuration for at least this many seconds.",
)
@drafter_option
@threads_option
@backend_option
@json_option
def command(
    bundle: Path,
    contexts: tuple[int, ...],
    rows: tuple[int, ...],
    samples: int,
    seconds: float,
    drafter: str | None,
    threads: int,
    backend: str,
    as_json: bool,
) -> None:
    """Measure the engines of BUNDLE on this machine.

    Chooses their threads and how requests share the cores (with --threads, that is given), then times every kind of
    step; stores placement and cost table in the bundle.
    """
    if not math.isfinite(seconds):
        raise click.UsageError(f"--seconds is {seconds}: it would never end")
    opened, options = open_seen(bundle, drafter), EngineOptions(threads)
    check_folder(opened.file(COST_TABLE).parent, bundle)
    plan = profile_plan(opened, backend, rows=rows, contexts=contexts, samples=samples, seconds=seconds)
    pairs = len(plan.rows) * len(plan.contexts)
    click.echo(f"{pairs} batch sizes and contexts, about {seconds:g} s each or more on slow engines", err=True)
    with reporting(remaining=True) as reporter:
        table, placement = profile_bundle(opened, backend, options, plan, reporter)
    path = opened.file(COST_TABLE)
    entries, noise = break_even(table), noise_of(table)
    if as_json:
        noises = [entry._asdict() | {"drowns": entry.drowns} for entry in noise]
        even = [entry._asdict() for entry in entries]
        found = {"table": str(path), "flat": is_flat(table), "break_even": even, "noise": noises}
        print_json(found | {"placement": placement and placement.model_dump(exclude={"fingerprint"})})
    else:
        if placement is not None:
            table_console().print(placement_table(placement))
            print_text(placement_line(placement))
        _show(table, entries, noise)
        print_text(f"written to {path}")
    _warn(noise, table)


def _show(table: CostTable, entries: Sequence[BreakEven], noise: Sequence[Noise]) -> None:
    console = table_console()
    console.print(_costs(table))
    console.print(_noise(noise))
    console.print(_break_even(entries))
    if is_flat(table):
        console.print("the table is flat: verifying everything costs nothing, a scheduler has nothing to decide")


def _warn(noise: Sequence[Noise], table: CostTable) -> None:
    """Say where the figures do not carry a decision, and what would help."""
    noisy = [entry for entry in noise if entry.drowns]
    if not noisy:
        return
    worst = max(noisy, key=lambda entry: entry.error / entry.least)
    samples = min(t.samples for t in table.verify if (t.rows, t.context) == (worst.rows, worst.context))
    click.echo(
        f"warning: {len(noisy)} of {len(noise)} batch sizes and contexts are too noisy for a scheduler: at "
        f"batch size {worst.rows} and context {worst.context} the medians are off by {worst.error:.0%}, and a draft "
        f"token more a request costs {worst.difference:.0%}; let nothing else run, or pass --samples "
        f"{worst.samples_needed(samples)}",
        err=True,
    )


def _noise(noise: Sequence[Noise]) -> Table:
    """Relative to the time of a verify step."""
    shown = Table("requests", "context", "a step scatters by", "error of the medians", "a draft token more a request")
    shown.title = "noise (quartiles), beside what schedulers act on"
    for entry in noise:
        figures = (f"{value:.1%}" for value in (entry.spread, entry.error, entry.difference))
        shown.add_row(str(entry.rows), str(entry.context), *figures)
    return shown


def _costs(table: CostTable) -> Table:
    """Milliseconds a step, median and quartiles."""
    shown = Table("requests", "context", "verify ms by tokens", "draft ms", "times", title="cost of a step")
    for rows in table.rows:
        for context in table.contexts:
            same = [t for t in table.verify if t.rows == rows and t.context == context]
            cells = [f"{t.tokens}: {1e3 * t.seconds:.1f} ({1e3 * t.low:.1f}–{1e3 * t.high:.1f})" for t in same]
            draft = f"{1e3 * table.draft_seconds(rows, context):.1f}"
            shown.add_row(str(rows), str(context), ", ".join(cells), draft, str(same[0].samples))
    return shown


def _break_even(entries: Sequence[BreakEven]) -> Table:
    """Accepted length that speculation needs to gain anything, and the most that it could gain."""
    lengths = sorted({entry.length for entry in entries})
    title = "accepted length above which speculation gains (and its gain if all were accepted), by verify length"
    shown = Table("requests", "context", *map(str, lengths), title=title)
    for rows, context in sorted({(entry.rows, entry.context) for entry in entries}):
        same = {entry.length: entry for entry in entries if (entry.rows, entry.context) == (rows, context)}
        cells = [f"{same[n].accepted_length:.2f} ({same[n].best_gain:.2f}×)" for n in lengths]
        shown.add_row(str(rows), str(context), *cells)
    return shown
