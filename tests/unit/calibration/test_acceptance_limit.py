"""How little accepted is too little: sound drafters pass on prompts of their own kind, worse ones do not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dspark_export.checks.acceptance import DEVIATIONS, Acceptance, _deviation

BLOCK, SPREAD = 7, 0.35


def accept(random: np.random.Generator, prompts: int, rounds: int, level: float) -> list[np.ndarray]:
    """Accepted tokens a round of some prompts: each draws how good its drafts are, then its rounds."""
    shares = np.clip(level + random.normal(0, 0.12, prompts), 0.02, 0.98)
    return [np.minimum(random.geometric(1 - share, rounds) - 1, BLOCK) for share in shares]


def recorded(random: np.random.Generator) -> Any:
    """What a calibration of 400 prompts like that holds."""
    groups = accept(random, 400, 60, 0.5)
    everything = np.concatenate(groups)
    survival = [float((everything > j).mean()) for j in range(BLOCK)]
    means = np.array([group.mean() for group in groups])
    chance = np.mean([group.var() / len(group) for group in groups])
    return SimpleNamespace(survival=survival, spread=float(np.sqrt(max(0.0, means.var() - chance))))


@pytest.mark.parametrize(("prompts", "rounds"), [(4, 20), (1, 40), (16, 10), (128, 60)])
def test_sound_runs_pass_and_bad_ones_are_found(prompts: int, rounds: int) -> None:
    random = np.random.default_rng(prompts)
    sts = recorded(random)
    limit = sum(sts.survival) - DEVIATIONS * _deviation(sts, [rounds] * prompts)
    sound = [np.concatenate(accept(random, prompts, rounds, 0.5)).mean() for _ in range(500)]
    assert np.mean(np.array(sound) < limit) <= 0.01
    if prompts >= 16:
        worse = [np.concatenate(accept(random, prompts, rounds, 0.25)).mean() for _ in range(200)]
        assert np.mean(np.array(worse) < limit) >= 0.95


def test_more_prompts_and_more_rounds_narrow_it() -> None:
    sts: Any = SimpleNamespace(survival=[0.5, 0.25, 0.1], spread=SPREAD)
    few, more, longer = (_deviation(sts, counts) for counts in ([10] * 4, [10] * 16, [40] * 16))
    assert few == pytest.approx(2 * more)
    assert SPREAD / 4 < longer < more


def test_a_limit_is_reached_by_what_equals_it() -> None:
    assert Acceptance(1.5, 1.5, "x").passed
    assert not Acceptance(1.49, 1.5, "x").passed
    assert Acceptance(1.0, None, "not calibrated").passed
