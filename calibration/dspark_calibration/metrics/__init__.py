"""How good probabilities are: calibration, ranking, proper scores, and how sure one can be of them."""

from dspark_calibration.metrics.binning import Bin, ece, ece_equal_mass, prefix_survival, reliability
from dspark_calibration.metrics.bootstrap import Interval, interval, resample_prompts
from dspark_calibration.metrics.scores import auroc, brier, log_loss
from dspark_calibration.metrics.spread import spread_of_prompts
from dspark_calibration.metrics.summary import PositionScores, mean_ece, noise_floor, score_positions

__all__ = [
    "Bin",
    "Interval",
    "PositionScores",
    "auroc",
    "brier",
    "ece",
    "ece_equal_mass",
    "interval",
    "log_loss",
    "mean_ece",
    "noise_floor",
    "prefix_survival",
    "reliability",
    "resample_prompts",
    "score_positions",
    "spread_of_prompts",
]
