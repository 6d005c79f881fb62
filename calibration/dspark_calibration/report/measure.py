"""From rounds to the report's figures of calibration and acceptance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dspark_calibration.arrays import Doubles
from dspark_calibration.metrics import (
    PositionScores,
    interval,
    mean_ece,
    noise_floor,
    prefix_survival,
    reliability,
    resample_prompts,
    score_positions,
)
from dspark_calibration.report.schema import Bar, Ece, Measured, Position, PositionScore, Scores, Source
from dspark_calibration.sts import Scaling, StsCalibration, confidences
from dspark_calibration.traces import PromptRef, Rounds

FORMS = ("before", "per_position_scaling", "temperature_scaling", "after")
"""No calibration; each position on its own; sequential temperature scaling; what is applied (the same, but for
drafters that need offsets as well)."""


class Validation:
    """Held-out rounds under each of `FORMS`."""

    def __init__(self, rounds: Rounds, sts: StsCalibration, per_position: Sequence[float], resamples: int) -> None:
        self.rounds, self.bins, self._sts = rounds, sts.bins, sts
        self._per_position, self._resamples = list(per_position), resamples

    def ece(self) -> Ece:
        """Means over positions."""
        after = self._confidences(self.rounds, "after")
        return Ece(
            bins=self.bins,
            before=self._mean(self.rounds, "before"),
            after=self._mean(self.rounds, "after"),
            per_position_scaling=self._mean(self.rounds, "per_position_scaling"),
            temperature_scaling=self._mean(self.rounds, "temperature_scaling"),
            before_interval=self._interval("before"),
            after_interval=self._interval("after"),
            noise_floor=noise_floor(after, self.bins),
        )

    def scores(self, form: str) -> Scores:
        """Means over positions, all sources together."""
        return _means(self._score(self.rounds, form))

    def positions(self) -> list[Position]:
        """Every position of the block."""
        forms = {form: self._score(self.rounds, form) for form in FORMS}
        return [self._position(j, forms) for j in range(self.rounds.block_size)]

    def sources(self, prompts: Sequence[PromptRef]) -> list[Source]:
        """Every source of prompts that has rounds."""
        names = np.array([prompts[i].source for i in self.rounds.prompt.tolist()])
        return [
            self._source(name, self.rounds.take(np.flatnonzero(names == name)))
            for name in dict.fromkeys(ref.source for ref in prompts)
            if (names == name).any()
        ]

    def _position(self, j: int, forms: dict[str, list[PositionScores]]) -> Position:
        reached = int(self.rounds.reached[:, j].sum())
        accepted = int(self.rounds.survived[:, j].sum())
        return Position(
            position=j + 1,
            temperature=self._sts.temperatures[j],
            offset=self._sts.offsets[j],
            sts_temperature=Measured(value=self._sts.sts_temperatures[j], low=self._sts.low[j], high=self._sts.high[j]),
            per_position_temperature=self._per_position[j],
            reached=reached,
            accepted=accepted,
            acceptance=accepted / reached if reached else None,
            diagram_before=self._diagram(j, "before"),
            diagram_after=self._diagram(j, "after"),
            **{form: PositionScore(**scores[j]._asdict()) for form, scores in forms.items()},
        )

    def _source(self, name: str, rounds: Rounds) -> Source:
        return Source(
            source=name,
            prompts=len(np.unique(rounds.prompt)),
            rounds=len(rounds),
            accepted_length=self._accepted_length(rounds),
            **{form: _means(self._score(rounds, form)) for form in FORMS},
        )

    def _accepted_length(self, rounds: Rounds) -> Measured:
        found = [1.0 + float(r.accepted.mean()) for r in resample_prompts(rounds, self._resamples)]
        return Measured(value=1.0 + float(rounds.accepted.mean()), **interval(found)._asdict())

    def _interval(self, form: str) -> tuple[float, float]:
        found = [self._mean(resample, form) for resample in resample_prompts(self.rounds, self._resamples)]
        low, high = interval(found)
        return low, high

    def _mean(self, rounds: Rounds, form: str) -> float:
        return mean_ece(self._confidences(rounds, form), rounds, self.bins)

    def _score(self, rounds: Rounds, form: str) -> list[PositionScores]:
        return score_positions(self._confidences(rounds, form), rounds, self.bins)

    def _diagram(self, j: int, form: str) -> list[Bar]:
        survival = prefix_survival(self._confidences(self.rounds, form))[:, j]
        bins = reliability(survival, self.rounds.survived[:, j].astype(np.float64), self.bins)
        return [Bar(**bar._asdict()) for bar in bins]

    def _confidences(self, rounds: Rounds, form: str) -> Doubles:
        scaling = {
            "before": None,
            "per_position_scaling": Scaling.of(self._per_position),
            "temperature_scaling": Scaling.of(self._sts.sts_temperatures),
            "after": self._sts.scaling,
        }
        return confidences(rounds.logits, scaling[form])


def _means(scores: Sequence[PositionScores]) -> Scores:
    ranked = [score.auroc for score in scores if score.auroc is not None]
    return Scores(
        ece=float(np.mean([score.ece for score in scores])),
        ece_equal_mass=float(np.mean([score.ece_equal_mass for score in scores])),
        auroc=float(np.mean(ranked)) if ranked else None,
        brier=float(np.mean([score.brier for score in scores])),
        log_loss=float(np.mean([score.log_loss for score in scores])),
    )
