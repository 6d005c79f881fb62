"""The cost table: what a step of either engine costs on one machine, by rows, tokens and context."""

from __future__ import annotations

import json
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from dspark_calibration import first_problem
from dspark_engines.bundle import Bundle
from dspark_engines.costs.fingerprint import Fingerprint
from dspark_engines.scheduler import StepCost

COST_TABLE = "calibration/cost_table.json"


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


class CostTable(BaseModel):
    """calibration/cost_table.json (schema version 1)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    fingerprint: Fingerprint
    verify: list[Timing] = Field(min_length=1)
    draft: list[Timing] = Field(min_length=1)
    overhead_seconds: NonNegativeFloat
    """What a round of one request spends outside both engines."""
    reading_seconds: NonNegativeFloat = 0.0
    """What a token that the drafter has missed adds to its next step."""
    beside: CostTable | None = None
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
    try:
        table = CostTable.model_validate(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        message = f"{path} is not a cost table ({first_problem(error)}): ignored"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
        return None
    different = table.fingerprint.differences(here)
    if different:
        message = f"{path} was measured elsewhere ({', '.join(different)} differ): ignored; run dspark-export profile"
        warnings.warn(message, RuntimeWarning, stacklevel=2)
        return None
    return table


def save_cost_table(table: CostTable, bundle: Bundle) -> Path:
    """Write the table into the bundle, in one rename."""
    path = bundle.file(COST_TABLE)
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(table.model_dump_json(indent=1) + "\n", "utf-8")
    partial.replace(path)
    return path
