"""Deciding over drafts where the logits are: a small engine behind the target's, which reads its output in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dspark_engines.backends.base import Ints, Trial, Verified
from dspark_engines.backends.tensorrt.execution.launching import StepRunner
from dspark_engines.backends.tensorrt.packing import filled_rows
from dspark_engines.backends.tensorrt.shapes import RoleShapes, StepShape

DRAFT_LOGITS = frozenset({"draft_logits"})


class TrtDecider:
    """Runs `dspark::Verify` on the lines of logits that the target's last launch left on the device.

    Its runner's input `logits` is that output. Rows that a launch does not serve take a line each, behind those that
    count, and nobody reads what comes of them. One built for `greedy` rows takes no others.
    """

    def __init__(self, runner: StepRunner, shapes: RoleShapes, greedy: bool = False) -> None:
        self._runner, self._shapes, self.samples = runner, shapes, not greedy

    def preload(self, shape: StepShape) -> None:
        """Make ready for what a narrow launch of this shape leaves."""
        self._runner.preload(shape)

    def decide(self, shape: StepShape, trial: Trial, rows: Ints) -> tuple[Verified, float]:
        """What comes of `rows` of the trial, whose lines a launch of `shape` left in that order, and the seconds."""
        if shape.wide:  # one row with one line
            shape = self._shapes.fit(1, 1)
        feeds: dict[str, npt.NDArray[Any]] = {
            name: filled_rows(getattr(trial, name)[rows], shape.rows)
            for name in ("draft_ids", "verify_lengths", "temperature")
        }
        block = trial.draft_ids.shape[1]
        feeds["uniforms"] = np.zeros((shape.rows, block + 1, 2), np.float32)
        feeds["uniforms"][: len(rows), : trial.uniforms.shape[1]] = trial.uniforms[rows]
        stay = DRAFT_LOGITS
        if (trial.temperature[rows] * trial.verify_lengths[rows]).any():
            drafted = rows[rows < len(trial.draft_logits)]
            feeds["draft_logits"], stay = filled_rows(trial.draft_logits[drafted], shape.rows), frozenset()
        outputs, seconds = self._runner.run(shape, 0, feeds, stay)
        accepted, following = (outputs[name][: len(rows)].copy() for name in Verified._fields)
        return Verified(accepted, following), seconds
