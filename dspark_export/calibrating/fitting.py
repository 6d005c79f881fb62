"""From traces to a bundle's calibration."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from dspark_calibration import CalibrationError, Rounds, StsCalibration, TraceStore
from dspark_calibration.estimator import AcceptanceModel, estimated, fit_acceptance
from dspark_calibration.metrics import interval, mean_ece, resample_prompts, spread_of_prompts
from dspark_calibration.sts import Scaling, confidences, fit_scaling, fit_sts, rounds_needed
from dspark_calibration.sts.file import EceInterval
from dspark_calibration.traces import load_rounds, split_prompts
from dspark_engines.progress import Reporter

Offsets = Literal["auto", "on", "off"]
ENOUGH, BETTER = 0.01, 2.0 / 3.0
"""Temperatures alone do when they leave no more error than this, or offsets no less than this share of it."""


@dataclass(frozen=True)
class FitPlan:
    """`bins` of the calibration error, `resamples` of the bootstrap, and whether positions get offsets as well:
    "auto" gives them when they help much on the fitted half, where temperatures alone are at their best."""

    bins: int = 20
    resamples: int = 200
    offsets: Offsets = "auto"


@dataclass(frozen=True)
class Halves:
    """Rounds to fit on and rounds to validate on; no prompt is in both."""

    fit: Rounds
    validation: Rounds
    cut: int
    empty: int = 0
    """Rounds that are left out because the drafter had nothing to propose."""

    def estimated(self, model: AcceptanceModel | None) -> Halves:
        """With the model's confidences in place of the drafter's; as they are without a model."""
        return replace(self, fit=estimated(self.fit, model), validation=estimated(self.validation, model))


def load_halves(store: TraceStore, reporter: Reporter) -> Halves:
    """The traces, split by prompt. Raises `DsparkError` when they are incomplete or damaged."""
    split = split_prompts(store.header.prompts)
    rounds = load_rounds(store, reporter.step("reading traces"))
    return Halves(rounds.of(split.fit), rounds.of(split.validation), rounds.cut, rounds.empty)


def fit(store: TraceStore, halves: Halves, backend: str, plan: FitPlan, reporter: Reporter) -> StsCalibration:
    """Fit on one half, validate on the other. Raises `DsparkError` for too few rounds in either.

    Of a drafter without a confidence head what is calibrated is an estimate, which is fitted on the same half. It is
    of greatest likelihood already: temperatures go on top only where they help prompts that they were not fitted on.
    """
    names = store.header.scores
    model = fit_acceptance(halves.fit, names) if names else None
    halves = halves.estimated(model)
    alone = choose_temperatures(halves.fit, plan.bins, sparing=model is not None)
    scaling = choose_scaling(halves.fit, alone, plan)
    _check_validation(halves.validation, plan.bins)
    kept = model is not None and set(alone) == {1.0}
    low, high = (alone, alone) if kept else _temperature_intervals(halves.fit, plan, reporter)
    held_out = halves.validation
    return StsCalibration(
        bundle=store.header.bundle,
        backend=backend,
        block_size=store.header.block_size,
        temperatures=list(scaling.temperatures),
        offsets=list(scaling.offsets),
        sts_temperatures=alone,
        low=low,
        high=high,
        bins=plan.bins,
        fit_rounds=len(halves.fit),
        validation_rounds=len(held_out),
        ece_before=mean_ece(confidences(held_out.logits), held_out, plan.bins),
        ece_after=mean_ece(confidences(held_out.logits, scaling), held_out, plan.bins),
        expected=_expected(held_out, scaling, plan),
        survival=held_out.survived.mean(axis=0).tolist(),
        spread=spread_of_prompts(held_out),
        estimator=model,
        prompts_sha256=store.header.prompts_sha256,
        max_new_tokens=store.header.max_new_tokens,
        temperature=store.header.temperature,
        seed=store.header.seed,
    )


def choose_temperatures(rounds: Rounds, bins: int, *, sparing: bool) -> list[float]:
    """Those of STS; `sparing`: of 1 unless others help prompts that they were not fitted on."""
    found = fit_sts(rounds, rounds.block_size, bins)
    return [1.0] * rounds.block_size if sparing and not temperatures_help(rounds, bins) else found


def choose_scaling(rounds: Rounds, alone: list[float], plan: FitPlan) -> Scaling:
    """Temperatures alone, or with offsets where those were asked for or are needed."""
    scaling = Scaling.of(alone)
    if plan.offsets == "off":
        return scaling
    moved = fit_scaling(rounds, rounds.block_size, plan.bins)
    if plan.offsets == "on":
        return moved
    error, less = (mean_ece(confidences(rounds.logits, form), rounds, plan.bins) for form in (scaling, moved))
    return moved if error > ENOUGH and less <= BETTER * error else scaling


def temperatures_help(rounds: Rounds, bins: int) -> bool:
    """Whether temperatures of half of these prompts make the error of the other half smaller, both ways together."""
    names = np.unique(rounds.prompt)
    halves = [rounds.of(names[start::2].tolist()) for start in (0, 1)]
    if min(map(len, halves)) < rounds_needed(bins):
        return False
    gained = 0.0
    for fitted, other in (halves, halves[::-1]):
        scaled = confidences(other.logits, Scaling.of(fit_sts(fitted, rounds.block_size, bins)))
        gained += mean_ece(confidences(other.logits), other, bins) - mean_ece(scaled, other, bins)
    return gained > 0.0


def _check_validation(rounds: Rounds, bins: int) -> None:
    if len(rounds) < rounds_needed(bins):
        raise CalibrationError(
            f"{len(rounds)} rounds to validate on, at least {rounds_needed(bins)} are needed for {bins} bins",
            hint="trace more prompts or more tokens a prompt, or use fewer --bins",
        )


def _temperature_intervals(rounds: Rounds, plan: FitPlan, reporter: Reporter) -> tuple[list[float], list[float]]:
    """95% intervals of the temperatures, position by position."""
    step, fits = reporter.step("bootstrap over prompts"), []
    for done, resample in enumerate(resample_prompts(rounds, plan.resamples), 1):
        if len(resample) >= rounds_needed(plan.bins):  # a resample of few, short prompts may not be fitted
            fits.append(fit_sts(resample, rounds.block_size, plan.bins))
        step(done, plan.resamples)
    table = np.array(fits or [fit_sts(rounds, rounds.block_size, plan.bins)])
    intervals = [interval(column) for column in table.T.tolist()]
    return [i.low for i in intervals], [i.high for i in intervals]


def _expected(rounds: Rounds, scaling: Scaling, plan: FitPlan) -> list[EceInterval]:
    """What the error would be on other prompts of the same kind: fewer rounds show a larger one, by chance."""
    sizes, size = [], len(rounds)
    while size >= rounds_needed(plan.bins):
        sizes.append(size)
        size //= 2
    found = []
    for size in sizes:
        figures = [
            mean_ece(confidences(sample.logits, scaling), sample, plan.bins)
            for sample in resample_prompts(rounds, plan.resamples, size=size)
        ]
        found.append(EceInterval(rounds=size, **interval(figures)._asdict()))
    return found
