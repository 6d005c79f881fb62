"""The paper's Algorithm 1: admit greedily, stop at the first throughput that does not improve."""

from __future__ import annotations

import numpy as np

from dspark_engines.arrays import Ints
from dspark_engines.measured.step_cost import StepCost
from dspark_engines.scheduler.admission import admit_first
from dspark_engines.scheduler.arrays import early_stop, last_admitted, rank, throughput
from dspark_engines.scheduler.base import Scheduler, Step
from dspark_engines.scheduler.spec import Algorithm1Spec


class Algorithm1Scheduler(Scheduler):
    """Candidates (r, j) by survival descending, ties by (j, r); B = R, τ = R; admit one (B + 1, τ + a) as long
    as Θ = τ·SPS(B) improves.

    Lossless because it never looks ahead. Picture the tokens covered up. The next candidate in the order is the
    best of the rows' first open positions, because no row's survival rises, and the survivals of those positions
    follow from uncovered tokens. It is admitted or the search ends, by Θ of what is admitted and of itself. Only
    an admission uncovers its token. So every decision is made before the token it is about is seen, in all rows
    jointly. The price is that it stops in front of a cliff in SPS even if what lies behind would pay.
    """

    uses_cost = True

    def __init__(self, spec: Algorithm1Spec, cost: StepCost | None = None) -> None:
        super().__init__(cost)

    def _lengths(self, step: Step) -> Ints:
        ranked = rank(np, step.survival, step.anchors)
        budget = np.asarray(early_stop(np, throughput(np, ranked, step.sps)))
        return admit_first(step.survival, budget, np.asarray(last_admitted(np, ranked, budget)))
