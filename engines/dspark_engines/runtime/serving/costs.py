"""Costs as a cohort has them at this moment: other ones while another cohort runs."""

from __future__ import annotations

from collections.abc import Callable

from dspark_engines.measured import StepCost
from dspark_engines.measured.cost_table import CostTable


class CurrentCosts:
    """A table's own costs while `exclusive()`, else its `shared` ones."""

    def __init__(self, table: CostTable, exclusive: Callable[[], bool]) -> None:
        self._table, self._shared, self._exclusive = table, table.shared or table, exclusive

    @property
    def _now(self) -> CostTable:
        return self._table if self._exclusive() else self._shared

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
