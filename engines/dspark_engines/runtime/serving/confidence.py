"""Where a runtime's estimates of acceptance begin."""

from __future__ import annotations

from dspark_engines.bundle import DrafterInfo
from dspark_engines.runtime.round.estimator import AcceptanceEstimator, AcceptancePrior
from dspark_engines.runtime.serving.plan import RuntimePlan


def new_estimator(drafter: DrafterInfo, plan: RuntimePlan) -> AcceptanceEstimator | None:
    """For one sequence of rounds; None for drafters that give confidences of their own, or nothing at all.

    It begins with what `calibrate` fitted, else with how often drafts were accepted when costs were measured.
    """
    if not drafter.scores:
        return None
    model = plan.confidence.estimator
    if model is not None:
        return AcceptanceEstimator(AcceptancePrior.fitted(model), plan.confidence.scaling)
    survival = plan.prior.survival if plan.prior is not None else ()
    return AcceptanceEstimator(AcceptancePrior.unfitted(drafter.block_size, len(drafter.scores), survival))
