"""The logistic function."""

from __future__ import annotations

import numpy as np

from dspark_calibration.arrays import Doubles


def sigmoid(x: Doubles) -> Doubles:
    """1 / (1 + exp(−x)), without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))
