"""The same length for every row, in every step."""

from __future__ import annotations

import numpy as np

from dspark_engines.arrays import Ints
from dspark_engines.measured.step_cost import StepCost
from dspark_engines.scheduler.base import Scheduler, Step
from dspark_engines.scheduler.spec import FixedSpec


class FixedScheduler(Scheduler):
    """Cut only by the caps and by zeros in the survival. Lossless: nothing drafted is looked at but those."""

    uses_confidence = False

    def __init__(self, spec: FixedSpec, cost: StepCost | None = None) -> None:
        super().__init__(cost)
        self._length = spec.length

    def _lengths(self, step: Step) -> Ints:
        possible: Ints = (step.survival > 0).sum(axis=-2, dtype=np.int64)
        return possible if self._length is None else np.minimum(possible, self._length)
