"""Acceptance estimated from what a drafter says of its tokens, where it has no confidence head."""

from dspark_calibration.estimator.fit import estimated, fit_acceptance
from dspark_calibration.estimator.model import AcceptanceModel, design

__all__ = ["AcceptanceModel", "design", "estimated", "fit_acceptance"]
