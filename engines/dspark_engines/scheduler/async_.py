"""The asynchronous scheduler: how much to verify from old confidences, what to verify from current ones."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np

from dspark_engines.arrays import Doubles, Ints
from dspark_engines.measured.step_cost import StepCost
from dspark_engines.scheduler.admission import admit_first, best_budget, nth_largest
from dspark_engines.scheduler.arrays import SMALLEST
from dspark_engines.scheduler.base import Scheduler, Step
from dspark_engines.scheduler.spec import AsyncSpec

NOBODY = int(np.iinfo(np.int64).min)
"""No request's id."""


class AsyncScheduler(Scheduler):
    """The budget K maximises Θ over all prefixes of the sorted survivals recorded `delay` steps earlier, so it
    crosses cliffs in SPS that Algorithm 1 stops at; then the K current candidates of the highest survival are
    admitted. Rows that did not speculate `delay` steps ago count as survival 1 in the search for K.

    Why this is lossless.

    1. K is known before this step drafts. It follows from confidences, caps and costs of the past, and this
       step's tokens are drawn from fresh randomness given the past, so K tells nothing about them.
    2. Given K, (r, j) is admitted if fewer than K candidates come before it in the order (a descending, j, r).
       Of its own row exactly the j − 1 before it do: survival never rises along a row, equal values go by j.
       So no later value of its row has a say: neither a_{r,j+1}, the first to depend on token x_{r,j}, nor any
       behind it. How many of another row come before it depends on a_{r,j}, a product of c_{r,1} … c_{r,j} of
       which c_{r,j} sees x_{r,j-1} at the latest, and on the other row's tokens, which are drawn independently
       of this row's. Hence whether (r, j) is admitted is settled by tokens of row r before position j and by
       what is independent of row r: given that it is admitted and reached, x_{r,j} is still distributed as q.
    3. The same holds for all rows together: the K best can be found by uncovering tokens one by one, each only
       after it was admitted (see `Algorithm1Scheduler`; here the search ends at K instead of by Θ).

    A global search for K on live confidences breaks 1. Whether (r, j) is admitted would depend on Θ of longer
    prefixes, thus on a_{r,j+1}, thus on x_{r,j} itself: tokens that promise a good continuation are submitted
    and others are not, where the bonus token is drawn from p a second time. With one row, a_1 = 0.8, SPS =
    (1, 0.5, 0.45), c_2 = 0.9 behind A and 0 behind B, p = (0.7, 0.3), q = (0.5, 0.5), token A comes out with
    probability 0.5 + 0.5 · 0.7 = 0.85 instead of 0.7.

    Fresh randomness in 1 is a demand on the runtime: a draw that was used for a draft token which was dropped
    must not be used again for a later draft. Old confidences tell about the old draw.

    A step is a call of `plan`. The memory is keyed by request, so those that finished drop out of it.
    """

    uses_cost = True

    def __init__(self, spec: AsyncSpec, cost: StepCost | None = None) -> None:
        super().__init__(cost)
        self._delay = spec.delay
        self._records: deque[_Record] = deque(maxlen=spec.delay)

    def _lengths(self, step: Step) -> Ints:
        budget = self._budget(step)  # of the past: nothing of this step's survival goes into it
        self._records.append(_Record.of(step))
        edge = np.maximum(nth_largest(step.survival, budget), SMALLEST)
        return admit_first(step.survival, budget, edge)

    def _budget(self, step: Step) -> Ints:
        """Draft tokens to verify in each step; of equally good budgets the smallest."""
        if len(self._records) < self._delay:
            earlier = np.ones(step.survival.shape)
        else:
            earlier = self._records[0].recall(step.request_ids)
        earlier[step.barred] = 0.0
        return best_budget(earlier, step.anchors, step.sps)


class _Record(NamedTuple):
    """Who speculated, [R'], and with what survival, [γ, R']: all rows of all steps side by side."""

    request_ids: Ints
    survival: Doubles

    @classmethod
    def of(cls, step: Step) -> _Record:
        """Rows that did not speculate are recorded as unknown. `original` is the step's own: no copy is needed."""
        steps = range(step.original.ndim - 2)
        by_position = step.original.transpose(-2, *steps, -1)
        known = np.where(step.caps > 0, step.request_ids, NOBODY)
        return cls(known.reshape(-1), by_position.reshape(len(by_position), -1))

    def recall(self, request_ids: Ints) -> Doubles:
        """Survival […, γ, R] of these requests, a new array; 1 for those that were not there.

        Most are where they were; the others are looked for where somebody else is now.
        """
        recorded, asked = self.request_ids, request_ids.reshape(-1)
        if len(recorded) == len(asked):
            survival = self.survival.copy()
            left = moved = np.flatnonzero(recorded != asked)
        else:
            survival = np.empty((len(self.survival), len(asked)))
            left, moved = np.arange(len(recorded)), np.arange(len(asked))
        if moved.size:
            survival[:, moved] = 1.0
            names, wanted = recorded[left], asked[moved]
            order = names.argsort()
            place = order.take(names.searchsorted(wanted, sorter=order), mode="clip")
            known = names.take(place) == wanted
            if known.any():
                survival[:, moved[known]] = self.survival[:, left[place[known]]]
        steps = range(1, request_ids.ndim)
        return survival.reshape(-1, *request_ids.shape).transpose(*steps, 0, -1)
