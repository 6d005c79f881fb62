"""Confidence logits to confidences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from dspark_calibration.arrays import Doubles


class Scaling(NamedTuple):
    """One temperature and one offset a position: the confidence is σ(c_j / T_j + b_j)."""

    temperatures: tuple[float, ...]
    offsets: tuple[float, ...]

    @classmethod
    def of(cls, temperatures: Sequence[float]) -> Self:
        """Temperatures alone."""
        return cls(tuple(temperatures), (0.0,) * len(temperatures))


def sigmoid(x: Doubles) -> Doubles:
    """1 / (1 + exp(−x)), without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def confidences(logits: Doubles, scaling: Scaling | None = None) -> Doubles:
    """σ(c_j / T_j + b_j), [n, g] float64; σ(c_j) without a scaling."""
    if scaling is None:
        return sigmoid(logits)
    return sigmoid(logits / np.array(scaling.temperatures) + np.array(scaling.offsets))
