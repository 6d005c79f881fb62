"""Rounds of a drafter without a confidence head: what it says of its tokens, and a truth to accept them by."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dspark_calibration import Rounds
from tests.support.rounds import context_and_prompt, draw

NAMES = ("log_probability", "margin")


class Truth(NamedTuple):
    """Acceptance is σ(biases[j] + scores · weights)."""

    biases: tuple[float, ...] = (1.0, 0.5, 0.0, -0.5)
    weights: tuple[float, ...] = (0.8, 0.5)

    def log_odds(self, scores: np.ndarray) -> np.ndarray:
        return np.array(self.biases) + scores @ np.array(self.weights)


def scores(count: int, block: int, seed: int = 0) -> np.ndarray:
    """[count, block, 2]: a log-probability and a log margin."""
    random = np.random.default_rng(seed)
    return np.stack([-random.exponential(1.0, (count, block)), random.exponential(1.5, (count, block))], axis=-1)


def scored_rounds(truth: Truth, count: int, seed: int = 0, per_prompt: int = 50) -> Rounds:
    """Rounds accepted by `truth`; the drafter itself gives no confidence."""
    said = scores(count, len(truth.biases), seed)
    accepted = draw(truth.log_odds(said), np.random.default_rng(seed + 1))
    logits = np.full(said.shape[:2], np.inf)
    return Rounds(logits, accepted, *context_and_prompt(count, per_prompt), scores=said)
