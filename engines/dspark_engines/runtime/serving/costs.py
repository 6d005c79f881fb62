"""Costs as one cohort has them: other ones alone than beside another cohort."""

from __future__ import annotations

from collections.abc import Callable

from dspark_engines.measured import StepCost
from dspark_engines.measured.cost_table import CostTable


class CostsInCompany:
    """A table's costs beside another cohort while `alone()` is false, its own else."""

    def __init__(self, table: CostTable, alone: Callable[[], bool]) -> None:
        self._table, self._beside, self._alone = table, table.beside or table, alone

    @property
    def _now(self) -> CostTable:
        return self._table if self._alone() else self._beside

    @property
    def overhead_seconds(self) -> float:
        """As in `Costs`, at this moment; so are the others."""
        return self._now.overhead_seconds

    @property
    def reading_seconds(self) -> float:
        return self._now.reading_seconds

    def step_cost(self, rows: int, context: int) -> StepCost:
        return self._now.step_cost(rows, context)

    def draft_seconds(self, rows: int, context: int) -> float:
        return self._now.draft_seconds(rows, context)
