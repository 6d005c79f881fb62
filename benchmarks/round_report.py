"""What `round.py` measured, as figures and as tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.table import Table

from dspark_export.commands.console import table_console

PARTS = ("draft engine", "verify engine", "binding", "accepting")
ENGINES = ("draft engine", "verify engine")


class Sample(NamedTuple):
    """One turn of one bundle and batch size, in seconds: parts and "total" of reading all prompts, of a round with
    drafts and of a plain one; a verify step of 1 token and of 8 (0 where it was not measured)."""

    bundle: int
    rows: int
    turn: int
    prefill: dict[str, float]
    round: dict[str, float]
    plain: dict[str, float]
    verify_1: float
    verify_8: float


def outside(parts: dict[str, float]) -> float:
    """Share of the time that is spent outside the engines."""
    return 1.0 - sum(parts.get(name, 0.0) for name in ENGINES) / parts["total"]


def summary(samples: Sequence[Sample], names: Sequence[str], precisions: Sequence[str]) -> dict[str, Any]:
    """Medians over turns; ratios are the medians of those within a turn, each bundle against the first."""
    cells = []
    for index, rows in sorted({(sample.bundle, sample.rows) for sample in samples}):
        same = [sample for sample in samples if (sample.bundle, sample.rows) == (index, rows)]
        first = {sample.turn: sample for sample in samples if (sample.bundle, sample.rows) == (0, rows)}
        paired = [(sample, first[sample.turn]) for sample in same if sample.turn in first]
        cells.append(
            {
                "bundle": names[index],
                "precision": precisions[index],
                "rows": rows,
                "prefill_ms": 1e3 * median(same, lambda s: s.prefill["total"]),
                "round_ms": milliseconds(same, lambda s: s.round),
                "plain_ms": milliseconds(same, lambda s: s.plain),
                "outside_engines": median(same, lambda s: outside(s.round)),
                "outside_engines_plain": median(same, lambda s: outside(s.plain)),
                "plain_tokens_per_second": rows / median(same, lambda s: s.plain["total"]),
                "plain_to_first": float(np.median([f.plain["total"] / s.plain["total"] for s, f in paired] or [0.0])),
                "verify_1_ms": 1e3 * median(same, lambda s: s.verify_1),
                "verify_8_ms": 1e3 * median(same, lambda s: s.verify_8),
                "verify_8_to_1": median(same, lambda s: s.verify_8 / s.verify_1) if same[0].verify_1 else None,
            }
        )
    return {"cells": cells, "turns": len({sample.turn for sample in samples})}


def milliseconds(samples: Sequence[Sample], parts: Callable[[Sample], dict[str, float]]) -> dict[str, float]:
    """Medians of every part, of the rest, and of the total."""
    found = {part: 1e3 * median(samples, lambda s, part=part: parts(s).get(part, 0.0)) for part in PARTS}  # type: ignore[misc]
    rest = 1e3 * median(samples, lambda s: parts(s)["total"] - sum(parts(s).get(part, 0.0) for part in PARTS))
    return found | {"rest": rest, "total": 1e3 * median(samples, lambda s: parts(s)["total"])}


def median(samples: Sequence[Sample], value: Callable[[Sample], float]) -> float:
    """Over turns."""
    return float(np.median([value(sample) for sample in samples]))


def show(found: dict[str, Any]) -> None:
    """Print the tables."""
    console, cells = table_console(), found["cells"]
    heads = [f"{cell['bundle']}\n{cell['precision']}, {cell['rows']} at once" for cell in cells]
    table = Table("ms, medians", *heads, title=f"a round taken apart, {found['turns']} turns")
    table.add_row("reading the prompts", *(f"{cell['prefill_ms']:.1f}" for cell in cells))
    for kind, title in (("round_ms", "drafting round"), ("plain_ms", "plain round")):
        for part in ("total", *PARTS, "rest"):
            name = title if part == "total" else f"  {part}"
            table.add_row(name, *(f"{cell[kind][part]:.2f}" for cell in cells))
    for name, key, form in FIGURES:
        table.add_row(name, *("" if not cell[key] else format(cell[key], form) for cell in cells))
    console.print(table)
    for entry in found.get("profile", ()):
        for role, engine in entry["engines"].items():
            console.print(profile_table(f"{entry['bundle']}, {entry['rows']} at once, {role} engine", engine))


FIGURES = (
    ("outside the engines, drafting", "outside_engines", ".2%"),
    ("outside the engines, plain", "outside_engines_plain", ".2%"),
    ("plain tokens/s", "plain_tokens_per_second", ".1f"),
    ("plain ÷ the first bundle's", "plain_to_first", ".2f"),
    ("verify of 1 token, ms", "verify_1_ms", ".2f"),
    ("verify of 8 tokens, ms", "verify_8_ms", ".2f"),
    ("verify 8 ÷ verify 1", "verify_8_to_1", ".2f"),
)


def profile_table(title: str, engine: dict[str, Any]) -> Table:
    """Kinds of nodes, the dearest first."""
    share = engine["floor_us"] * engine["nodes"] / 1e3 / engine["kernels_ms"]
    table = Table("kind of node", "share", "ms", "nodes", title=title)
    for kind, entry in sorted(engine["kinds"].items(), key=lambda item: -item[1]["ms"]):
        table.add_row(kind, f"{entry['ms'] / engine['kernels_ms']:.1%}", f"{entry['ms']:.2f}", str(entry["nodes"]))
    table.caption = (
        f"profiling slows it: kernels {engine['kernels_ms']:.1f} ms, a step without the profiler "
        f"{engine['step_ms']:.1f} ms. A node that only renames its input took {engine['floor_us']:.1f} µs, which is "
        f"the profiler's part of every node or less: {share:.0%} of all"
    )
    return table
