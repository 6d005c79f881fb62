"""How long the schedulers take to decide, on one core of this machine.

    python benchmarks/scheduler.py [--block-size 7] [--calls 2000]

Prints a table: microseconds of one `plan` by scheduler and number of requests, the median with the 5% and
95% points. Every call gets other confidences, and for the asynchronous scheduler one request in sixteen is
replaced at every step, so that it has to look up who was there.
"""

from __future__ import annotations

import json
import time

import click
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dspark_engines.measured import StepCost
from dspark_engines.scheduler import get_scheduler, scheduler_names

ROWS = (1, 8, 64, 256)
STEPS = 64
"""Different steps, taken in turn."""
COST = StepCost([(1, 0.010), (256, 0.012), (257, 0.020), (1024, 0.030), (1025, 0.040), (2048, 0.050)])


@click.command(context_settings={"show_default": True})
@click.option("--block-size", default=7, type=click.IntRange(1), help="Draft positions a row.")
@click.option("--calls", default=2000, type=click.IntRange(1), help="Calls a cell.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def main(block_size: int, calls: int, as_json: bool) -> None:
    """Measure the time of one decision."""
    cells = [(name, rows) for name in scheduler_names() for rows in ROWS]
    times = {cell: measure(*cell, block_size, calls) for cell in track(cells, "deciding", console=Console(stderr=True))}
    if as_json:
        nested = {name: {rows: times[name, rows] for rows in ROWS} for name in scheduler_names()}
        click.echo(json.dumps({"microseconds": nested, "block_size": block_size}))
    else:
        show(times, block_size)


def measure(name: str, rows: int, block_size: int, calls: int) -> list[float]:
    """Microseconds of one call: the 5%, 50% and 95% points."""
    scheduler, random = get_scheduler(name, COST), np.random.default_rng(0)
    survivals = random.uniform(0.5, 1.0, (STEPS, rows, block_size)).cumprod(axis=-1)
    ids, caps, taken = np.arange(rows), np.full(rows, block_size), []
    for call in range(calls):
        ids = np.where((np.arange(rows) + call) % 16 == 0, ids + rows, ids)
        started = time.perf_counter()
        scheduler.plan(survivals[call % STEPS], ids, caps)
        taken.append(time.perf_counter() - started)
    return [round(1e6 * float(point), 1) for point in np.percentile(taken, (5, 50, 95))]


def show(times: dict[tuple[str, int], list[float]], block_size: int) -> None:
    """Print the table."""
    title = f"microseconds a decision, block size {block_size}: median (5%–95%)"
    table = Table("requests", *scheduler_names(), title=title)
    for rows in ROWS:
        points = (times[name, rows] for name in scheduler_names())
        table.add_row(str(rows), *(f"{middle:.0f} ({low:.0f}–{high:.0f})" for low, middle, high in points))
    Console().print(table)


if __name__ == "__main__":
    main()
