"""Accepting drafts where the logits are: a small engine behind the target's, which reads its output in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dspark_engines.arrays import Ints
from dspark_engines.backends.padded.held_logits import LogitKeeper, PaddedHeldLogits
from dspark_engines.backends.padded.packing import filled
from dspark_engines.backends.padded.runner import StepRunner
from dspark_engines.backends.padded.shapes import RoleShapes, StepShape
from dspark_engines.sampling.contract import Accepted, AcceptInputs, DraftLogits


class PaddedAcceptor:
    """Runs `dspark::Accept` on the lines of logits that the target's last launch left on the device.

    Its runner reads `logits` there, and `draft_logits` where `keeper` lays them out: None for an engine that was built
    for greedy rows, and takes no others. Rows that a launch does not serve take a line each, behind those that count,
    and nobody reads what comes of them.
    """

    def __init__(self, runner: StepRunner, shapes: RoleShapes, keeper: LogitKeeper | None) -> None:
        self._runner, self._shapes, self._keeper = runner, shapes, keeper

    @property
    def samples(self) -> bool:
        """Whether it accepts drafts of rows with a temperature."""
        return self._keeper is not None

    def preload(self, shape: StepShape) -> None:
        """Make ready for what a narrow launch of this shape leaves."""
        self._runner.preload(shape)

    def accept(self, shape: StepShape, inputs: AcceptInputs, rows: Ints) -> tuple[Accepted, float]:
        """What comes of `rows` of the inputs, whose lines a launch of `shape` left in that order, and the seconds."""
        if shape.wide:  # one row with one line
            shape = self._shapes.fit(1, 1)
        feeds: dict[str, npt.NDArray[Any]] = {
            name: filled(getattr(inputs, name)[rows], shape.rows)
            for name in ("draft_ids", "verify_lengths", "temperature")
        }
        block = inputs.draft_ids.shape[1]
        feeds["uniforms"] = np.zeros((shape.rows, block + 1, 2), np.float32)
        feeds["uniforms"][: len(rows), : inputs.uniforms.shape[1]] = inputs.uniforms[rows]
        if (inputs.temperature[rows] * inputs.verify_lengths[rows]).any():
            self._lay_out(inputs.draft_logits, rows)
        outputs, seconds = self._runner.run(shape, 0, feeds)
        accepted, following = (outputs[name][: len(rows)].copy() for name in Accepted._fields)
        return Accepted(accepted, following), seconds

    def _lay_out(self, drafts: DraftLogits, rows: Ints) -> None:
        """Draft logits of those rows that have some."""
        assert self._keeper is not None, "engines for greedy rows get no others"
        drafted = rows[rows < len(drafts)]
        if isinstance(drafts, PaddedHeldLogits):
            self._keeper.lay_out([drafts.places[row] for row in drafted])
        else:
            self._keeper.upload(np.asarray(drafts)[drafted])
