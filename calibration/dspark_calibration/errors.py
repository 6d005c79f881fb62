"""The root of the one error tree, and what can be wrong with traces and fits.

The root stands here because every other package may import this one; users find it as `dspark_engines.DsparkError`.
"""

from __future__ import annotations


class DsparkError(Exception):
    """A user's error: `str(error)` is the fact, `error.hint` the remedy."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class CalibrationError(DsparkError):
    """Traces or fits do not belong together, are damaged, or are too few."""
