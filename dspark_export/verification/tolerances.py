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

TOLERANCES: dict[tuple[str, str], Tolerance] = {
    # (what, dtype)
    ("CachedAttention", "float32"): Tolerance(2e-5, 1e-5),
    ("BlockAttention", "float32"): Tolerance(2e-5, 1e-5),
    ("MarkovHead", "float32"): Tolerance(2e-5, 1e-5),
    ("target.logits", "float32"): Tolerance(5e-4, 1e-4),
    ("target.features", "float32"): Tolerance(5e-4, 1e-3),
    ("drafter.draft_logits", "float32"): Tolerance(5e-4, 1e-4),
    ("drafter.confidence_logits", "float32"): Tolerance(5e-4, 1e-4),
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
