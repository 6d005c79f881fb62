"""The longest prefix that is likely enough to survive."""

from __future__ import annotations

import numpy as np

from dspark_engines.arrays import Doubles, Ints
from dspark_engines.measured.step_cost import StepCost
from dspark_engines.scheduler.arrays import SMALLEST
from dspark_engines.scheduler.base import Scheduler, Step
from dspark_engines.scheduler.spec import ThresholdSpec

WITHOUT_COSTS = 0.5


class ThresholdScheduler(Scheduler):
    """Admits (r, j) if a_{r,j} is at least the minimum. Lossless: a_{r,j} is known before token j is looked at.

    A minimum that nobody gave is what a draft token costs, in tokens: the seconds that it adds to the step, the mean
    over all candidates, times the tokens per second of a step that verifies no draft token. That depends on sizes
    alone, not on any row's survival.
    """

    def __init__(self, spec: ThresholdSpec, cost: StepCost | None = None) -> None:
        super().__init__(cost)
        self._minimum = spec.minimum

    def _window(self, cost: StepCost | None, tokens: int, candidates: int) -> Doubles:
        if self._minimum is not None or cost is None:
            return np.empty(0)
        return cost.window(tokens, 1 + candidates)

    def _lengths(self, step: Step) -> Ints:
        minimum = self._minimum
        if minimum is None:
            minimum = _worth(step.sps, step.anchors) if step.sps.size else WITHOUT_COSTS
        lengths: Ints = (step.survival >= max(minimum, SMALLEST)).sum(axis=-2, dtype=np.int64)
        return lengths


def _worth(sps: Doubles, anchors: int) -> float:
    """Tokens that a step without draft tokens makes in the time that one of them adds."""
    return anchors * (float(sps[0] / sps[-1]) - 1.0) / (len(sps) - 1)
