"""The longest prefix that is likely enough to survive."""

from __future__ import annotations

import numpy as np

from dspark_engines.scheduler.arrays import Ints
from dspark_engines.scheduler.base import Scheduler, Step
from dspark_engines.scheduler.cost import StepCost
from dspark_engines.scheduler.spec import ThresholdSpec


class ThresholdScheduler(Scheduler):
    """Admits (r, j) if a_{r,j} is at least the minimum. Lossless: a_{r,j} is known before token j is looked at."""

    def __init__(self, spec: ThresholdSpec, cost: StepCost | None = None) -> None:
        super().__init__(cost)
        self._minimum = spec.minimum

    def _lengths(self, step: Step) -> Ints:
        lengths: Ints = (step.survival >= self._minimum).sum(axis=-2, dtype=np.int64)
        return lengths
