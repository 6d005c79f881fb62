"""What calibration buys: the schedulers replayed over the validation rounds, at every load that was measured."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dspark_calibration import Rounds
from dspark_calibration.report import Cost, Load, Replayed, SweepPoint
from dspark_calibration.sts import Scaling, confidences
from dspark_engines.arrays import Doubles
from dspark_engines.scheduler import ThresholdSpec
from dspark_export.calibrating.replay import MeasuredMachine, lay_out, oracle, plain_throughput, replay

THRESHOLDS = [0.0, *(round(0.05 * i, 2) for i in range(1, 20))]
CASES = (
    ("fixed", "raw"),
    ("algorithm1", "raw"),
    ("algorithm1", "sts"),
    ("algorithm1", "oracle"),
    ("async", "raw"),
    ("async", "sts"),
)
"""Schedulers and the confidences they are given. Knowing this round's outcome is of no use to the asynchronous one."""


def sources_of_confidence(rounds: Rounds, scaling: Scaling) -> dict[str, Doubles]:
    """Raw, calibrated, and the outcome itself."""
    return {
        "raw": confidences(rounds.logits),
        "sts": confidences(rounds.logits, scaling),
        "oracle": oracle(rounds),
    }


def replay_loads(rounds: Rounds, forms: dict[str, Doubles], machine: MeasuredMachine) -> list[Load]:
    """All cases at all loads that there are rounds for."""
    return [
        Load(
            requests=rows,
            plain=plain_throughput(machine, rows),
            replays=list(_replays(rounds, forms, machine, rows)),
        )
        for rows in machine.loads
        if rows <= len(rounds)
    ]


def _replays(rounds: Rounds, forms: dict[str, Doubles], machine: MeasuredMachine, rows: int) -> Iterator[Replayed]:
    for scheduler, form in CASES:
        outcome = replay(lay_out(rounds, forms[form], rows), scheduler, machine)
        yield Replayed(scheduler=scheduler, confidences=form, **outcome._asdict())


def sweep_thresholds(rounds: Rounds, forms: dict[str, Doubles], machine: MeasuredMachine | None) -> list[SweepPoint]:
    """Verify while survival is at or above a threshold: how much is verified, how much of it accepted, and what
    that brings at the smallest load. Threshold 0 verifies everything."""
    rows = machine.loads[0] if machine else 1
    points = []
    for form in ("raw", "sts"):
        streams = lay_out(rounds, forms[form], rows)
        for threshold in THRESHOLDS:
            if machine:
                spec = ThresholdSpec(threshold) if threshold else "fixed"
                outcome = replay(streams, spec, machine)
                verified, length = outcome.verify_length, outcome.accepted_length
                realised = outcome.realised
            else:
                lengths = (streams.survival >= threshold).sum(axis=-1)
                verified = float(lengths.mean())
                length = 1.0 + float(np.minimum(lengths, streams.accepted).mean())
                realised = None
            points.append(
                SweepPoint(
                    threshold=threshold,
                    confidences=form,
                    verify_length=verified,
                    accepted_length=length,
                    accepted_share=(length - 1.0) / verified if verified else 1.0,
                    realised=realised,
                )
            )
    return points


def cost_rows(machine: MeasuredMachine) -> list[Cost]:
    """The measured steps at the machine's context, in milliseconds."""
    table = machine.costs
    band = min(table.contexts, key=lambda measured: abs(measured - machine.context))
    return [
        Cost(
            requests=timing.rows,
            tokens=timing.tokens,
            verify=1e3 * timing.seconds,
            low=1e3 * timing.low,
            high=1e3 * timing.high,
            draft=1e3 * table.draft_seconds(timing.rows, band),
        )
        for timing in table.verify
        if timing.context == band
    ]
