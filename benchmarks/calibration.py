"""Time the fit of 200,000 rounds of seven positions: sequential temperature scaling, and with offsets."""

from __future__ import annotations

import time

import click
import numpy as np

from dspark_calibration import Rounds
from dspark_calibration.sts import confidences, fit_positions, fit_scaling, fit_sts

POSITIONS, PER_PROMPT = 7, 100


@click.command()
@click.option("--rounds", "count", type=click.IntRange(min=200), default=200_000, show_default=True)
def main(count: int) -> None:
    """Seconds of each fit, wall and processor."""
    random = np.random.default_rng(0)
    logits = random.normal(1.0, 2.0, (count, POSITIONS))
    accepted = np.logical_and.accumulate(random.random(logits.shape) < confidences(logits / 1.5), axis=1).sum(axis=1)
    place = np.arange(count)
    rounds = Rounds(logits, accepted, place % PER_PROMPT, place // PER_PROMPT)
    for fit in (fit_sts, fit_positions, fit_scaling):
        wall, processor = time.perf_counter(), time.process_time()
        fit(rounds, POSITIONS)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        click.echo(f"{fit.__name__}: {count:,} rounds in {wall:.2f} s (processor {processor:.2f} s)")


if __name__ == "__main__":
    main()
