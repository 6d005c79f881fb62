"""Confidence logits to confidences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from dspark_calibration.arrays import Doubles
from dspark_calibration.logistic import sigmoid


class Scaling(NamedTuple):
    """One temperature and one offset a position: the confidence is σ(c_j / T_j + b_j)."""

    temperatures: tuple[float, ...]
    offsets: tuple[float, ...]

    @classmethod
    def of(cls, temperatures: Sequence[float]) -> Self:
        """Temperatures alone."""
        return cls(tuple(temperatures), (0.0,) * len(temperatures))


def confidences(logits: Doubles, scaling: Scaling | None = None) -> Doubles:
    """σ(c_j / T_j + b_j), [n, g] float64; σ(c_j) without a scaling."""
    if scaling is None:
        return sigmoid(logits)
    return sigmoid(logits / np.array(scaling.temperatures) + np.array(scaling.offsets))
