"""By how much prompts differ in what is accepted."""

from __future__ import annotations

import numpy as np

from dspark_calibration.traces.rounds import Rounds


def spread_of_prompts(rounds: Rounds) -> float:
    """Standard deviation, between prompts, of the draft tokens accepted a round.

    What chance alone makes of prompts with so few rounds is taken out (analysis of variance, one factor); 0 where
    chance explains all of it, or there are fewer than two prompts with two rounds.
    """
    groups = [rounds.accepted[rounds.prompt == prompt] for prompt in np.unique(rounds.prompt)]
    groups = [group for group in groups if len(group) > 1]
    if len(groups) < 2:
        return 0.0
    sizes = np.array([len(group) for group in groups])
    means, total = np.array([group.mean() for group in groups]), sizes.sum()
    within = sum(group.var() * len(group) for group in groups) / (total - len(groups))
    between = (sizes * (means - np.average(means, weights=sizes)) ** 2).sum() / (len(groups) - 1)
    typical = (total - (sizes**2).sum() / total) / (len(groups) - 1)
    return float(np.sqrt(max(0.0, (between - within) / typical)))
