"""The cost table: what a step of either engine costs on one machine, by rows, tokens and context."""

from __future__ import annotations

import warnings
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from dspark_engines.bundle import Bundle, save_model
from dspark_engines.measured.file import Measured, load_measured
from dspark_engines.measured.fingerprint import Fingerprint
from dspark_engines.measured.prior import DraftPrior
from dspark_engines.measured.step_cost import StepCost

COST_TABLE = "calibration/cost_table.json"


class Costs(Protocol):
    """What a scheduler asks about a round: a `CostTable` answers, or a view of two of them."""

    @property
    def overhead_seconds(self) -> float:
        """Seconds of a round outside both engines."""

    @property
    def reading_seconds(self) -> float:
        """Seconds that a token which the drafter has missed adds to its next step."""

    def step_cost(self, rows: int, context: int) -> StepCost:
        """A round of so many requests, the longest context so long."""

    def draft_seconds(self, rows: int, context: int) -> float:
        """Seconds of a draft step."""


class Timing(BaseModel):
    """Median seconds of one kind of step, its quartiles, and how often it was measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: PositiveInt
    context: NonNegativeInt
    tokens: PositiveInt
    """All rows together; for the draft engine, block tokens."""
    seconds: PositiveFloat
    low: PositiveFloat
    high: PositiveFloat
    samples: PositiveInt


class MeasuredDrafting(BaseModel):
    """What drafts came to when costs were measured: greedy answers to a few prompts, whole blocks verified."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    survival: list[float]
    """How often a draft survived up to each position."""
    spread: NonNegativeFloat
    """Standard deviation, between prompts, of the draft tokens accepted a round."""
    rounds: NonNegativeInt

    @property
    def prior(self) -> DraftPrior:
        """The same for whoever expects something of drafts."""
        return DraftPrior(tuple(self.survival), self.spread)


class CostTable(Measured):
    """calibration/cost_table.json (schema version 1)."""

    verify: list[Timing] = Field(min_length=1)
    draft: list[Timing] = Field(min_length=1)
    overhead_seconds: NonNegativeFloat
    """What a round of one request spends outside both engines."""
    reading_seconds: NonNegativeFloat = 0.0
    """What a token that the drafter has missed adds to its next step."""
    drafting: MeasuredDrafting | None = None
    """None in tables of older versions, and in those of `profile`."""
    shared: CostTable | None = Field(default=None, validation_alias=AliasChoices("shared", "beside"))
    """What steps cost on a cohort's own engines while another cohort is at work; None where there is no such thing."""

    def __hash__(self) -> int:
        return id(self)

    @property
    def rows(self) -> list[int]:
        """Batch sizes that were measured."""
        return sorted({timing.rows for timing in self.verify})

    @property
    def contexts(self) -> list[int]:
        """Context lengths that were measured."""
        return sorted({timing.context for timing in self.verify})

    def step_cost(self, rows: int, context: int) -> StepCost:
        """The table for a step of `rows` requests whose longest context is `context` tokens.

        Measured sizes stand for everything up to them: a step runs on the next larger bucket of rows, and a
        context counts as the nearest measured one.
        """
        return _step_cost(self, *self._measured(rows, context))

    def draft_seconds(self, rows: int, context: int) -> float:
        """Seconds of a draft step of `rows` requests; 0 without any. Sizes as in `step_cost`."""
        return _draft_seconds(self, *self._measured(rows, context)) if rows else 0.0

    def _measured(self, rows: int, context: int) -> tuple[int, int]:
        """The measured batch size and context that stand for these."""
        size = next((n for n in self.rows if n >= rows), self.rows[-1])
        return size, min(self.contexts, key=lambda measured: abs(measured - context))


@lru_cache(maxsize=256)
def _step_cost(table: CostTable, rows: int, context: int) -> StepCost:
    points = [(t.tokens, t.seconds) for t in table.verify if t.rows == rows and t.context == context]
    draft = _draft_seconds(table, rows, context)
    return StepCost(points, draft_seconds=draft, overhead_seconds=table.overhead_seconds)


@lru_cache(maxsize=256)
def _draft_seconds(table: CostTable, rows: int, context: int) -> float:
    return next((t.seconds for t in table.draft if t.rows == rows and t.context == context), 0.0)


def load_cost_table(bundle: Bundle, here: Fingerprint) -> CostTable | None:
    """The bundle's table, or None with a warning when it is missing, unreadable, or was measured elsewhere."""
    path = bundle.file(COST_TABLE)
    if not path.is_file():
        warnings.warn(f"{bundle.path} has no cost table: run dspark-export profile", RuntimeWarning, stacklevel=2)
        return None
    return load_measured(path, CostTable, "cost table", here)


def save_cost_table(table: CostTable, bundle: Bundle) -> Path:
    """Write the table into the bundle, in one rename."""
    return save_model(table, bundle.file(COST_TABLE))
