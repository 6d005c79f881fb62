"""Schedulers replayed over traces: what they would have chosen, cost and gained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dspark_calibration import Rounds
from dspark_calibration.metrics import prefix_survival
from dspark_engines.arrays import Doubles, Ints
from dspark_engines.measured import CostTable, StepCost
from dspark_engines.scheduler import AsyncSpec, SchedulerSpec, get_scheduler


class Streams(NamedTuple):
    """S steps of R rows. survival [S, R, g] float64, accepted [S, R] int64, request_ids [S, R] int64.

    Row r lives through one prompt after another, each prompt's rounds in their order. Lengths that a scheduler
    chooses do not change the rounds that follow: they are those of the trace, in which whole blocks were verified.
    """

    survival: Doubles
    accepted: Ints
    request_ids: Ints


def lay_out(rounds: Rounds, confidence: Doubles, rows: int) -> Streams:
    """`rows` streams of equal length out of `rounds` [n] and their confidences [n, g]; up to rows − 1 rounds are
    left over. Raises `ValueError` when there are fewer rounds than rows."""
    steps = len(rounds) // rows
    if not steps:
        raise ValueError(f"{len(rounds)} rounds for {rows} rows")
    place = np.arange(rows * steps).reshape(rows, steps).T
    survival = prefix_survival(confidence)
    # A prompt whose rounds straddle two rows is two requests.
    ids = rounds.prompt[place] * rows + np.arange(rows)
    return Streams(survival[place], rounds.accepted[place], ids)


def oracle(rounds: Rounds) -> Doubles:
    """Confidences [n, g] of someone who knows what will be accepted: 1 up to there, 0 behind."""
    return rounds.survived.astype(np.float64)


@dataclass(frozen=True)
class MeasuredMachine:
    """The measured machine at one context length (tokens)."""

    costs: CostTable
    context: int

    @property
    def loads(self) -> list[int]:
        """Requests at once that were measured."""
        return self.costs.rows

    def step_cost(self, rows: int) -> StepCost:
        """Cost of a round, by tokens in the verify step."""
        return self.costs.step_cost(rows, self.context)


def plain_throughput(machine: MeasuredMachine, rows: int) -> float:
    """Tokens per second without speculation: a token of every request a step, and no draft."""
    cost = machine.step_cost(rows)
    return rows / (float(cost.seconds(np.array(rows))) + machine.costs.overhead_seconds)


class ReplayOutcome(NamedTuple):
    """Means over all rounds of one scheduler at one load.

    realised: tokens per second that the traced acceptances give; expected: what the confidences promised;
    verify_length: draft tokens verified a round; budget: those of all requests a step; accepted_length: tokens a
    round, the target's own included; wasted: share of verified draft tokens that were rejected.
    """

    realised: float
    expected: float
    verify_length: float
    budget: float
    accepted_length: float
    wasted: float


def summarise(streams: Streams, lengths: Ints, cost: StepCost) -> ReplayOutcome:
    """Figures of the chosen lengths [S, R]."""
    steps, rows = lengths.shape
    kept = lengths.clip(max=streams.accepted)
    seconds = float((1.0 / cost.sps(rows + lengths.sum(axis=1))).sum())
    block = streams.survival.shape[-1]
    admitted = streams.survival * (lengths[..., None] > range(block))
    verified = int(lengths.sum())
    return ReplayOutcome(
        realised=(steps * rows + int(kept.sum())) / seconds,
        expected=(steps * rows + float(admitted.sum())) / seconds,
        verify_length=verified / lengths.size,
        budget=verified / steps,
        accepted_length=1.0 + int(kept.sum()) / lengths.size,
        wasted=1.0 - int(kept.sum()) / verified if verified else 0.0,
    )


def replay(streams: Streams, spec: SchedulerSpec | str, machine: MeasuredMachine) -> ReplayOutcome:
    """Let the scheduler plan every step, and price its plans with the measured cost table.

    It is the runtime's own scheduler. One with a memory sees the steps in turn, others all at once.
    """
    rows = streams.accepted.shape[1]
    cost = machine.step_cost(rows)
    scheduler = get_scheduler(spec, cost)
    if spec == AsyncSpec.name or isinstance(spec, AsyncSpec):
        pairs = zip(streams.survival, streams.request_ids, strict=True)
        lengths = np.array([scheduler.plan(survival, ids) for survival, ids in pairs])
    else:
        lengths = scheduler.plan(streams.survival, streams.request_ids)
    return summarise(streams, lengths, cost)
