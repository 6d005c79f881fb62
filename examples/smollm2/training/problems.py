"""What a user can mend."""

from __future__ import annotations


class TrainingError(Exception):
    """What is wrong, and in `hint` what to do."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.hint = hint
