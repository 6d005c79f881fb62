"""What a step costs at one load, in the replay's terms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dspark_engines.measured import CostTable, StepCost


@dataclass(frozen=True)
class Deployment:
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


def plain_throughput(deployment: Deployment, rows: int) -> float:
    """Tokens per second without speculation: a token of every request a step, and no draft."""
    cost = deployment.step_cost(rows)
    return rows / (float(cost.seconds(np.array(rows))) + deployment.costs.overhead_seconds)
