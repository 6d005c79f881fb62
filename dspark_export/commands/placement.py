"""How a placement is shown."""

from __future__ import annotations

from rich.table import Table

from dspark_engines.measured import Arrangement, Placement

TITLE = "a drafting and a plain round under every arrangement, ms (quartiles)"


def placement_table(placement: Placement) -> Table:
    """Milliseconds for two rounds of all requests, median and quartiles, by arrangement."""
    arrangements = list(dict.fromkeys(trial.arrangement for trial in placement.trials))
    shown = Table(
        "requests",
        *map(describe, arrangements),
        title="a drafting and a plain round under every arrangement, ms (quartiles)",
    )
    for requests in sorted({trial.requests for trial in placement.trials}):
        trials = {trial.arrangement: trial for trial in placement.trials if trial.requests == requests}
        cells = []
        for each in arrangements:
            found = trials.get(each)
            cells.append(f"{1e3 * found.seconds:.1f} ({1e3 * found.low:.1f}–{1e3 * found.high:.1f})" if found else "")
        shown.add_row(str(requests), *cells)
    return shown


def placement_line(placement: Placement) -> str:
    """What was chosen."""
    chosen = f"placement: {describe(placement.alone)}"
    if placement.beside is None:
        return f"{chosen}; two cohorts do not pay"
    return f"{chosen}; from {placement.pairs_from} requests {describe(placement.beside)}"


def describe(arrangement: Arrangement) -> str:
    """In words."""
    threads = f"{arrangement.threads} thread{'s' if arrangement.threads > 1 else ''}"
    spinning = ", spinning" if arrangement.spinning else ""
    return f"{'one cohort' if arrangement.cohorts == 1 else 'two cohorts'}, {threads}{spinning}"
