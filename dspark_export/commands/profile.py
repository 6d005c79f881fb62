"""`dspark-export profile`: what a step costs here, and whether speculation can pay."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
from rich.table import Table

from dspark_engines import Bundle, open_bundle
from dspark_engines.backends import EngineOptions, get_backend
from dspark_engines.costs import BreakEven, CostTable, break_even, is_flat, save_cost_table, take_fingerprint
from dspark_engines.profiling import ProfilePlan, measure
from dspark_export.commands.console import print_json, reporting, table_console
from dspark_export.commands.options import backend_option, bundle_argument, json_option, threads_option

CONTEXTS = (64, 512, 1536)


@click.command("profile")
@bundle_argument
@click.option("--context", "contexts", type=click.IntRange(min=1), multiple=True, help="Context lengths to measure.")
@click.option("--rows", type=click.IntRange(min=1), multiple=True, help="Batch sizes; all buckets without.")
@click.option("--samples", type=click.IntRange(min=3), default=7, help="Timings of every kind of step.")
@threads_option
@backend_option
@json_option
def command(
    bundle: Path,
    contexts: tuple[int, ...],
    rows: tuple[int, ...],
    samples: int,
    threads: int,
    backend: str,
    as_json: bool,
) -> None:
    """Measure the engines of BUNDLE on this machine and store the cost table in the bundle."""
    opened, options = open_bundle(bundle), EngineOptions(threads)
    fingerprint = take_fingerprint(opened, backend, options)
    with reporting() as reporter, get_backend(backend).open(opened, options) as engines:
        plan = ProfilePlan(_rows(rows, opened, backend), _contexts(contexts, opened), samples)
        table = measure(opened, engines, plan, fingerprint, reporter.step("measuring"))
    path = save_cost_table(table, opened)
    entries = break_even(table)
    if as_json:
        report = {"table": str(path), "flat": is_flat(table), "break_even": [entry._asdict() for entry in entries]}
        print_json(report)
    else:
        _show(table, entries)
        click.echo(f"written to {path}")


def _contexts(chosen: Sequence[int], bundle: Bundle) -> list[int]:
    """Contexts that leave room for a block."""
    info = bundle.manifest
    longest = info.limits.context_length - info.drafter.block_size - 1
    return sorted({min(context, longest) for context in chosen or CONTEXTS})


def _rows(chosen: Sequence[int], bundle: Bundle, backend: str) -> list[int]:
    """Batch sizes: those that engines were compiled for."""
    compiled = {e.slots for b in bundle.manifest.backends if b.name == backend for e in b.engines}
    return sorted(set(chosen) or compiled)


def _show(table: CostTable, entries: Sequence[BreakEven]) -> None:
    console = table_console()
    console.print(_costs(table))
    console.print(_break_even(entries))
    if is_flat(table):
        console.print("the table is flat: verifying everything costs nothing, a scheduler has nothing to decide")


def _costs(table: CostTable) -> Table:
    """Milliseconds a step, median and quartiles."""
    shown = Table("requests", "context", "verify ms by tokens a request", "draft ms", title="cost of a step")
    for rows in table.rows:
        for context in table.contexts:
            same = [t for t in table.verify if t.rows == rows and t.context == context]
            cells = [f"{t.tokens // rows}: {1e3 * t.seconds:.1f} ({1e3 * t.low:.1f}–{1e3 * t.high:.1f})" for t in same]
            draft = f"{1e3 * table.draft_seconds(rows, context):.1f}"
            shown.add_row(str(rows), str(context), ", ".join(cells), draft)
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
