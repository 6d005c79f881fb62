"""Sequential temperature scaling: confidences whose product along the block means what it says."""

from dspark_calibration.logistic import sigmoid
from dspark_calibration.sts.apply import Scaling, confidences
from dspark_calibration.sts.file import StsCalibration
from dspark_calibration.sts.fit import fit_positions, fit_sts, rounds_needed
from dspark_calibration.sts.offset import fit_scaling
from dspark_calibration.sts.search import GRID, refine, search

__all__ = [
    "GRID",
    "Scaling",
    "StsCalibration",
    "confidences",
    "fit_positions",
    "fit_scaling",
    "fit_sts",
    "refine",
    "rounds_needed",
    "search",
    "sigmoid",
]
