"""Files for SGLang's DSpark.

Source of both forms, as of its commit 692c5f7 (July 2026): `DSparkStsCalibration` and `SpsCostTable` in
python/sglang/srt/speculative/dspark_components/, decoded by msgspec, which leaves unknown keys aside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def sglang_temperatures(
    temperatures: Sequence[float],
    dataset: str,
    rounds: int,
    ece_before: Sequence[float],
    ece_after: Sequence[float],
) -> dict[str, Any]:
    """For --speculative-dspark-confidence-sts-path: one temperature a position; the rest is for people."""
    return {
        "temperatures": list(temperatures),
        "dataset": dataset,
        "num_samples": rounds,
        "ece_before": list(ece_before),
        "ece_after": list(ece_after),
    }


def sglang_cost_table(steps_per_second: Sequence[tuple[int, float]]) -> dict[str, Any]:
    """For --speculative-dspark-sps-table-path: (tokens in the verify step, steps a second), tokens rising.

    Its look-up takes the largest listed size that is not above the step's.
    """
    points = sorted(steps_per_second)
    return {
        "sample_batch_tokens": [tokens for tokens, _ in points],
        "sample_steps_per_sec": [rate for _, rate in points],
        "max_batch_tokens": points[-1][0],
    }
