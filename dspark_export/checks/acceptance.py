"""Is as much accepted as should be? Held against what calibration recorded, or against a given accepted length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dspark_calibration import StsCalibration, accepted_length
from dspark_calibration.report import Report
from dspark_engines import Bundle, GenerationResult
from dspark_engines.bundle import engine_identity
from dspark_engines.errors import BundleError
from dspark_engines.measured import read_sts

REPORT = "calibration/report.json"
DEVIATIONS = 3.0
"""Standard deviations below what was recorded that chance may explain: one run in 740 of a sound bundle has more."""


class Acceptance(NamedTuple):
    """What was measured, the least that it should be, and why; `limit` is None where nothing says what to expect.

    `expected` is the accepted length that calibration recorded for the kind of prompts with the least.
    """

    measured: float
    limit: float | None
    reason: str
    expected: float | None = None

    @property
    def passed(self) -> bool:
        """Not below the limit."""
        return self.limit is None or self.measured >= self.limit

    @property
    def text(self) -> str:
        """For people, both figures in it."""
        if self.limit is None:
            return f"{self.measured:.2f}, not judged: {self.reason}"
        return f"{self.measured:.2f}, at least {self.limit:.2f} by {self.reason}"


def measure_acceptance(
    bundle: Bundle, backend: str, results: Sequence[GenerationResult], least: float | None
) -> Acceptance:
    """Judge the speculative `results` of prompts: against `least`, or against the bundle's calibration if it is None.

    `least` is compared with tokens a round over all rounds. Calibration counted only rounds that verified the whole
    block, so those alone are held against it.
    """
    everything = accepted_length([r for result in results for r in result.rounds])
    if least is not None:
        return Acceptance(everything, least, "--min-accepted-length")
    try:
        sts = read_sts(bundle)
    except BundleError as error:
        return Acceptance(everything, None, str(error))
    if sts.bundle != engine_identity(bundle.manifest, backend) or not sts.survival:
        return Acceptance(everything, None, "the calibration is of other engines, or older than this check")
    whole = [[r.accepted for r in result.rounds if r.proposed == sts.block_size] for result in results]
    whole = [accepted for accepted in whole if accepted]
    if not whole:
        return Acceptance(everything, None, "no round verified a whole block")
    expected = _recorded(bundle, sts)
    limit = max(1.0, expected - DEVIATIONS * _deviation(sts, [len(accepted) for accepted in whole]))
    measured = 1.0 + float(np.mean([count for accepted in whole for count in accepted]))
    return Acceptance(measured, limit, f"calibration, which recorded {expected:.2f}", expected)


def _recorded(bundle: Bundle, sts: StsCalibration) -> float:
    """The lower end of the 95% interval of the source of prompts with the least; without a report, the mean of all.

    The prompts here may be of any kind, so the hardest kind that calibration saw is the measure.
    """
    mean = 1.0 + float(sum(sts.survival))
    try:
        report = Report.model_validate_json(bundle.file(REPORT).read_bytes())
    except (OSError, ValueError):
        return mean
    if report.deployment.bundle != sts.bundle or not report.sources:
        return mean
    return min(source.accepted_length.low for source in report.sources)


def _deviation(sts: StsCalibration, rounds: Sequence[int]) -> float:
    """Standard deviation of the mean over prompts with so many rounds: prompts differ (`spread`), and rounds do.

    A round's variance follows from the survival: E[A^2] = sum over j of (2j - 1) P(A >= j), the prompts' part in it
    taken out.
    """
    survival, counts = np.array(sts.survival), np.array(rounds, np.float64)
    second = float(((2 * np.arange(1, len(survival) + 1) - 1) * survival).sum())
    within = max(0.0, second - float(survival.sum()) ** 2 - sts.spread**2)
    shares = counts / counts.sum()
    return float(np.sqrt(sts.spread**2 * (shares**2).sum() + within / counts.sum()))
