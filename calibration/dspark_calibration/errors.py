"""What can be wrong with traces and fits."""

from __future__ import annotations


class CalibrationError(ValueError):
    """`str(error)` is the fact, `error.hint` the remedy."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
