"""How far two forms of the same thing may differ, in one table. Token ids and counts are compared exactly."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt


class Tolerance(NamedTuple):
    """|a - b| <= absolute + relative * |b|, everywhere; NaN never passes."""

    absolute: float
    relative: float


TIE_GAP = 1e-4
"""Greedy outputs may differ only where the target's two best logits are closer than this."""

ROUNDING = 0.1
"""Share of an output's root mean square by which two runs of an int8 graph may differ, in the mean over its entries.
The integer parts are equal to the bit; where attention's last bits differ, single activations are rounded the other
way, and what follows is moved as far as quantisation itself moves it."""

LARGEST_KL, LEAST_TOP1 = 0.02, 0.95
"""What int8 may cost against float32: nats a token (mean), and how often the most likely token must be the same."""

HALF_SHARES = {"float16": 0.02, "bfloat16": 0.2}
"""Share of a line's root mean square by which an engine in half precision may differ from the float32 graph. Rounding
emulated on a CPU gave, on the example pair and random tokens, at most 0.0036 and 0.038 for logits, features and draft
logits, and 0.003 and 0.07 for confidences. Single entries go much further: features reach 22,313, and carry others."""

TOLERANCES: dict[tuple[str, str], Tolerance] = {
    # (what, dtype)
    ("CachedAttention", "float32"): Tolerance(2e-5, 1e-5),
    ("BlockAttention", "float32"): Tolerance(2e-5, 1e-5),
    ("MarkovHead", "float32"): Tolerance(2e-5, 1e-5),
    ("target.logits", "float32"): Tolerance(5e-4, 1e-4),
    ("target.features", "float32"): Tolerance(5e-4, 1e-3),
    ("drafter.draft_logits", "float32"): Tolerance(5e-4, 1e-4),
    ("drafter.confidence_logits", "float32"): Tolerance(5e-4, 1e-4),
    ("drafter.draft_scores", "float32"): Tolerance(5e-4, 1e-4),
}


class Comparison(NamedTuple):
    """The outcome of one comparison; `max_error` is absolute, `worst` is its share of the tolerance."""

    what: str
    max_error: float
    rms_error: float
    worst: float

    @property
    def passed(self) -> bool:
        """Within tolerance everywhere."""
        return self.worst <= 1.0

    def __bool__(self) -> bool:
        return self.passed


def compare_rounded(what: str, actual: npt.NDArray[Any], expected: npt.NDArray[Any]) -> Comparison:
    """Compare outputs of equal shape of an int8 graph, by the root mean square of what differs (see `ROUNDING`)."""
    if actual.shape != expected.shape:
        raise ValueError(f"{what}: shape {actual.shape} against {expected.shape}")
    if not actual.size:
        return Comparison(what, 0.0, 0.0, 0.0)
    same = actual == expected  # equal infinities are equal
    error = np.where(same, 0.0, actual.astype(np.float64) - np.where(same, 0.0, expected))
    finite = expected[np.isfinite(expected)].astype(np.float64)
    rms, size = float(np.sqrt((error**2).mean())), float(np.sqrt((finite**2).mean())) if finite.size else 0.0
    worst = rms / (ROUNDING * size) if np.isfinite(rms) and size else float("inf") if rms else 0.0
    return Comparison(what, float(np.abs(error).max()), rms, worst)


def compare(what: str, actual: npt.NDArray[Any], expected: npt.NDArray[Any]) -> Comparison:
    """Compare arrays of equal shape under the table's tolerance for `what`."""
    tolerance = TOLERANCES[what, str(expected.dtype)]
    if actual.shape != expected.shape:
        raise ValueError(f"{what}: shape {actual.shape} against {expected.shape}")
    if not actual.size:
        return Comparison(what, 0.0, 0.0, 0.0)
    same = actual == expected  # equal infinities are equal
    error = np.where(same, 0.0, np.abs(actual.astype(np.float64) - np.where(same, 0.0, expected)))
    share = error / (tolerance.absolute + tolerance.relative * np.abs(expected))
    worst = float(share.max()) if np.isfinite(share).all() else float("inf")
    return Comparison(what, float(error.max()), float(np.sqrt((error**2).mean())), worst)
