"""How a placement is shown."""

from __future__ import annotations

from rich.table import Table

from dspark_engines.measured import CoreLayout, MeasuredLayout

TITLE = "a drafting and a plain round under every layout, ms (quartiles)"


def placement_table(placement: MeasuredLayout) -> Table:
    """Milliseconds for two rounds of all requests, median and quartiles, by layout."""
    layouts = list(dict.fromkeys(timing.layout for timing in placement.timings))
    shown = Table(
        "requests",
        *map(describe, layouts),
        title="a drafting and a plain round under every layout, ms (quartiles)",
    )
    for requests in sorted({timing.requests for timing in placement.timings}):
        timings = {timing.layout: timing for timing in placement.timings if timing.requests == requests}
        cells = []
        for each in layouts:
            found = timings.get(each)
            cells.append(f"{1e3 * found.seconds:.1f} ({1e3 * found.low:.1f}–{1e3 * found.high:.1f})" if found else "")
        shown.add_row(str(requests), *cells)
    return shown


def placement_line(placement: MeasuredLayout) -> str:
    """What was chosen."""
    chosen = f"placement: {describe(placement.exclusive)}"
    if placement.shared is None:
        return f"{chosen}; two cohorts do not pay"
    return f"{chosen}; from {placement.pairs_from} requests {describe(placement.shared)}"


def describe(layout: CoreLayout) -> str:
    """In words."""
    threads = f"{layout.threads} thread{'s' if layout.threads > 1 else ''}"
    spinning = ", spinning" if layout.spinning else ""
    return f"{'one cohort' if layout.cohorts == 1 else 'two cohorts'}, {threads}{spinning}"
