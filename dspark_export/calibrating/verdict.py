"""The report's sentence, and what to keep in mind while reading it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dspark_calibration.report import Ece, Load, Position, Traces
from dspark_calibration.sts import GRID

GOOD_ECE = 0.02
"""Calibrated: the paper reports 0.4% to 2.0% after scaling."""
FEW_ROUNDS, FEW_PROMPTS = 100, 20
GAIN = 1.02
"""Less is within what a machine's timings vary."""


def verdict(loads: Sequence[Load], ece: Ece, traces: Traces) -> str:
    """What speculation gains, until when, and whether its confidences can be believed."""
    calibrated = "calibrated" if ece.after <= GOOD_ECE else "not well calibrated"
    drafted = traces.rounds / max(1, traces.rounds + traces.empty_rounds)
    where = f" (in the {drafted:.0%} of rounds that had a draft)" if traces.empty_rounds and loads else ""
    return (
        f"{_gain(loads)}{where}; {calibrated}: "
        f"expected calibration error {ece.before:.1%} before, {ece.after:.1%} after, "
        f"on {traces.validation_rounds:,} rounds of {traces.validation_prompts} prompts that were not fitted."
    )


def _gain(loads: Sequence[Load]) -> str:
    if not loads:
        return "Nothing is known about speed: there is no cost table"
    gains = [(load.requests, load.gain, load.best.scheduler) for load in loads]
    first, gain, scheduler = gains[0]
    loses = next((requests for requests, value, _ in gains if value < GAIN), None)
    if loses is None:
        last, final, _ = gains[-1]
        more = f", {final:.2f}× at {last}" if last != first else ""
        return f"Speculation gains {gain:.2f}× at {_requests(first)} ({scheduler}){more}: no break-even up to there"
    if loses != first:
        return f"Speculation gains {gain:.2f}× at {_requests(first)} ({scheduler}), break-even at {loses}"
    better = max(gains, key=lambda entry: entry[1])
    if better[1] >= GAIN:
        return f"Speculation gains nothing at {_requests(first)} ({gain:.2f}×), {better[1]:.2f}× at {better[0]}"
    return f"Speculation does not pay at any measured load (at best {better[1]:.2f}×, at {_requests(better[0])})"


def _requests(count: int) -> str:
    return f"{count} request" if count == 1 else f"{count} requests"


def caveats(
    traces: Traces, ece: Ece, positions: Sequence[Position], loads: Sequence[Load], offsets: bool
) -> Iterator[str]:
    """What limits these figures."""
    how = "greedily" if traces.temperature == 0 else f"at temperature {traces.temperature:g}"
    yield f"Traced {how}: requests drawn in another way accept differently and need their own calibration."
    if traces.scores:
        yield (
            f"The drafter has no confidence head: its confidences are estimated from {' and '.join(traces.scores)} by "
            "position (logistic regression, fitted on the prompts that the calibration was), and go on learning while "
            "serving. Figures are those of the estimate as it was fitted."
        )
    if traces.empty_rounds:
        yield (
            f"{traces.empty_rounds:,} rounds are left out in which the drafter had nothing to propose: acceptance and "
            "throughput are those of rounds with a draft."
        )
    if traces.cut_rounds:
        yield (f"{traces.cut_rounds:,} rounds are left out: the end of the text or a length limit cut their block.")
    if ece.after <= 1.5 * ece.noise_floor:
        yield (
            f"Right confidences would show an error of {ece.noise_floor:.1%} by chance with so many rounds: "
            "what remains is mostly chance."
        )
    if offsets:
        yield (
            f"Temperatures alone leave an error of {ece.temperature_scaling:.1%}, so every position has an offset as "
            "well. Servers that take temperatures only get those without offsets."
        )
    yield from _about_positions(positions)
    if traces.validation_prompts < FEW_PROMPTS:
        yield f"Only {traces.validation_prompts} prompts to validate on: the intervals are rough."
    if loads:
        yield (
            "Throughput is a replay: measured step times and traced acceptances, as if a shorter verification changed "
            "nothing about later rounds, without prompts to read and without waiting. Overlap is not counted."
        )


def _about_positions(positions: Sequence[Position]) -> Iterator[str]:
    edge = [str(p.position) for p in positions if p.sts_temperature.value > 0.99 * GRID[-1]]
    if edge:
        yield (
            f"The best temperature of position {', '.join(edge)} lies at the end of the search: dividing a logit "
            "cannot move a confidence across one half, and here the drafter's are wrong by more than that."
        )
    rare = [str(p.position) for p in positions if p.reached < FEW_ROUNDS]
    if rare:
        yield f"Position {', '.join(rare)} was reached in fewer than {FEW_ROUNDS} rounds: its acceptance is rough."
