"""What ragged packing saves: rows of different lengths in one verify step against padding all to the longest.

python benchmarks/packing.py BUNDLE [--context 256] [--samples 9]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from dspark_engines import open_bundle
from dspark_engines.backends import EngineOptions, VerifyEngine, get_backend

CASES = ((1, 8), (8, 8), (1, 1, 1, 8), (8, 8, 8, 8), (1, 2, 4, 8), (1, 1, 1, 1, 1, 1, 1, 8), (8,) * 8)


@click.command(context_settings={"show_default": True})
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--context", default=256, help="Cached tokens of every row.")
@click.option("--samples", default=9, help="Timings of every case.")
@click.option("--threads", default=0, help="Engine threads; 0: all cores.")
def main(bundle: Path, context: int, samples: int, threads: int) -> None:
    """Time verify steps of BUNDLE by the lengths of their rows; cases take turns."""
    opened = open_bundle(bundle)
    cases = [case for case in CASES if len(case) <= opened.manifest.limits.slots]
    with get_backend("onnxruntime").open(opened, EngineOptions(threads)) as engines:
        slots = [engines.verify.new_slot() for _ in range(max(map(len, cases)))]
        for slot in slots:
            step(engines.verify, [slot], [context], 0)
        times: dict[tuple[int, ...], list[float]] = {case: [] for case in cases}
        for sample in range(samples + 1):
            for case in cases:
                seconds = step(engines.verify, slots[: len(case)], case, context)
                if sample:  # the first turn warms up
                    times[case].append(seconds)
    show({case: 1e3 * float(np.median(values)) for case, values in times.items()})


def step(engine: VerifyEngine, slots: Sequence[object], lengths: Sequence[int], used: int) -> float:
    """Seconds of one step that asks for every token's logits."""
    tokens = sum(lengths)
    started = perf_counter()
    engine.step(
        slots,
        np.full(tokens, 100),
        np.array(lengths),
        np.full(len(slots), used),
        np.arange(max(0, tokens - 64), tokens),
    )
    return perf_counter() - started


def show(medians: dict[tuple[int, ...], float]) -> None:
    """Each case beside the padded one with as many rows."""
    table = Table("rows × lengths", "tokens", "ms", "padded to the longest, ms", "ratio", title="ragged packing")
    for case, milliseconds in medians.items():
        padded = medians[(max(case),) * len(case)]
        name = " ".join(map(str, case))
        table.add_row(name, str(sum(case)), f"{milliseconds:.1f}", f"{padded:.1f}", f"{milliseconds / padded:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
