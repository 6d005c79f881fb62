"""Has the calibration of a deployed bundle drifted? Measured on new prompts, held against what was recorded."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from dspark_calibration import StsCalibration
from dspark_calibration.estimator import estimated
from dspark_calibration.metrics import mean_ece
from dspark_calibration.sts import confidences, rounds_needed
from dspark_calibration.traces import load_rounds
from dspark_engines.bundle import Bundle
from dspark_engines.errors import DsparkError
from dspark_engines.measured import read_sts
from dspark_engines.progress import Reporter
from dspark_export.calibrating.plan import TracePlan
from dspark_export.calibrating.reporting import check_origin
from dspark_export.calibrating.tracing import trace_prompts
from dspark_export.prompts import Prompt


class Drift(NamedTuple):
    """Calibration error on new prompts, and the most that was to be expected of so many rounds."""

    prompts: int
    rounds: int
    ece: float
    ece_uncalibrated: float
    low: float
    high: float

    @property
    def drifted(self) -> bool:
        """Above the recorded interval."""
        return self.ece > self.high

    @property
    def below(self) -> bool:
        """Below the recorded interval: no drift, yet these are other prompts than those it was fitted on."""
        return self.ece < self.low


def check_drift(
    bundle: Bundle, prompts: Sequence[Prompt], plan: TracePlan, folder: Path | None, reporter: Reporter
) -> Drift:
    """Trace `prompts` (into `folder`, or one that is thrown away) as the calibration's own were, and measure.

    Raises `DsparkError` when the bundle is not calibrated or the rounds are too few to tell.
    """
    sts = read_sts(bundle)
    check_origin(bundle, sts)
    plan = replace(plan, max_new_tokens=sts.max_new_tokens, temperature=sts.temperature, backend=sts.backend)
    with tempfile.TemporaryDirectory() as scratch:
        store = trace_prompts(bundle, prompts, plan, folder or Path(scratch) / "traces", reporter)
        rounds = estimated(load_rounds(store, reporter.step("reading traces")), sts.estimator)
    if len(rounds) < rounds_needed(sts.bins):
        raise DsparkError(
            f"{len(rounds)} rounds that verified the whole block, at least {rounds_needed(sts.bins)} are needed",
            hint="check with more prompts",
        )
    low, high = expected(sts, len(rounds))
    return Drift(
        prompts=len(prompts),
        rounds=len(rounds),
        ece=mean_ece(confidences(rounds.logits, sts.scaling), rounds, sts.bins),
        ece_uncalibrated=mean_ece(confidences(rounds.logits), rounds, sts.bins),
        low=low,
        high=high,
    )


def expected(sts: StsCalibration, rounds: int) -> tuple[float, float]:
    """The recorded interval for the largest recorded sample that is not larger than this one."""
    fitting = [entry for entry in sts.expected if entry.rounds <= rounds] or sts.expected[-1:]
    entry = max(fitting, key=lambda entry: entry.rounds)
    return entry.low, entry.high
