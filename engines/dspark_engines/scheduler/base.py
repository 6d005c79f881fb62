"""The seam between the runtime and whoever decides how much of each draft is verified.

The runtime owns the arrays that it passes and may reuse them at once; a scheduler that remembers, copies. It
also owns the request ids, and never gives one to two requests. A scheduler owns its memory and the lengths
that it returns. One scheduler serves one sequence of steps: `plan` is called once a step, from one thread.

What makes a scheduler lossless under sampling: whether (r, j) is verified may depend on anything known before
this step's draft, on other rows, and on tokens of its own row before position j, but never on token j or a
later one of its own row. Given that, token j is still a fresh draw from q when its turn to be judged comes,
so accept-or-resample gives p; and where the prefix ends, the bonus token is drawn from p itself. A survival
a_{r,j} is allowed knowledge: it is the product of c_{r,1} … c_{r,j}, and c_{r,j} sees x_{r,j-1} at the latest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from dspark_engines.arrays import Doubles, Ints
from dspark_engines.measured.step_cost import StepCost


class Step(NamedTuple):
    """One step's question, checked. Arrays over positions lie position by position, […, γ, R]."""

    survival: Doubles
    """0 wherever nothing may be admitted."""
    original: Doubles
    """As it was passed: without regard to caps."""
    barred: npt.NDArray[np.bool_]
    """Where caps forbid admission."""
    caps: Ints
    request_ids: Ints
    anchors: int
    """Rows in the verify step, those without a draft included: what τ starts from."""
    sps: Doubles
    """Rounds per second with k = 0 … γ·R draft tokens admitted; empty for schedulers that do not ask the cost."""


class Scheduler(ABC):
    """Decides how many draft tokens of each row the next verify step takes. `plan` is asked with

    survival: float64 [R, γ], prefix survival: the cumulative product of calibrated confidences, in [0, 1], not
        rising along a row. A 0 is never admitted: pass 0 for positions behind a drafted end of sequence.
    request_ids: int64 [R], who the rows are; a scheduler with a memory finds them again by it.
    caps: int64 [R], the most that each row may verify (its room to the length limits; with 0 its survival is of no
        account but must be valid). None: the whole block. Caps must not depend
        on tokens drafted in this step; that is what the zeros in `survival` are for.
    plain_rows: rows of the verify step that are none of the R because they have no draft: an anchor each.
    other_tokens: tokens that the verify step carries besides, such as a chunk of a new request's prompt.
    cost: the table for this step (its context band, its number of rows) instead of the scheduler's own.

    Leading axes, […, R, γ] and […, R], are independent steps decided in one call: servers in lock step.
    """

    uses_confidence: ClassVar[bool] = True
    """False: the plan is the same whatever `survival` says, zeros excepted."""
    uses_cost: ClassVar[bool] = False
    """True: made with a cost table, or `plan` is given one."""

    def __init__(self, cost: StepCost | None = None) -> None:
        self._cost = cost

    def plan(
        self,
        survival: Doubles,
        request_ids: Ints,
        caps: Ints | None = None,
        *,
        plain_rows: int = 0,
        other_tokens: int = 0,
        cost: StepCost | None = None,
    ) -> Ints:
        """Lengths int64 [R]: row r verifies its anchor and its first lengths[r] draft tokens.

        Raises `ValueError` when shapes disagree, survival is NaN, outside [0, 1] or rising, or a needed cost
        table is missing, and remembers nothing of such a step.
        """
        rows, block = survival.shape[-2:]
        caps = np.full(survival.shape[:-1], block, np.int64) if caps is None else caps
        by_position = np.array(survival.swapaxes(-1, -2), np.float64, order="C")
        _check(by_position, request_ids, caps)
        if not survival.size:
            return np.zeros(survival.shape[:-1], np.int64)
        barred, usable = np.zeros(by_position.shape, np.bool_), by_position
        if np.count_nonzero(caps < block):
            barred = np.arange(block)[:, None] >= caps[..., None, :]
            usable = by_position.copy()
            usable[barred] = 0.0
        anchors = rows + plain_rows
        sps = self._window(self._cost if cost is None else cost, anchors + other_tokens, rows * block)
        return self._lengths(Step(usable, by_position, barred, caps, request_ids, anchors, sps))

    @abstractmethod
    def _lengths(self, step: Step) -> Ints:
        """Lengths [R] for a step with at least one row and one position."""

    def _window(self, cost: StepCost | None, tokens: int, candidates: int) -> Doubles:
        if not self.uses_cost:
            return np.empty(0)
        if cost is None:
            raise ValueError("this scheduler needs a cost table")
        return cost.window(tokens, 1 + candidates)


def _check(survival: Doubles, request_ids: Ints, caps: Ints) -> None:
    """Comparisons are put so that NaN fails them, and few: of a row that never rises only the ends need a look.

    What holds is counted: that takes half the time of `all`, `max` and `min`.
    """
    rows = (*survival.shape[:-2], survival.shape[-1])
    if request_ids.shape != rows or caps.shape != rows:
        raise ValueError(f"{rows} rows of survival, request_ids {request_ids.shape}, caps {caps.shape}")
    if np.count_nonzero(caps < 0):
        raise ValueError("caps must not be negative")
    if not survival.size:
        return
    first, last = survival[..., 0, :], survival[..., -1, :]
    falling = np.count_nonzero(survival[..., 1:, :] <= survival[..., :-1, :]) == survival.size - first.size
    within = np.count_nonzero(first <= 1.0) == np.count_nonzero(last >= 0.0) == first.size
    if not (falling and within):
        raise ValueError("survival must be finite, within [0, 1], and must not rise along a row")
