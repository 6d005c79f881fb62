"""Does speculation help on this machine, and with which length? Answered from the cost table alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dspark_engines.measured.cost_table import CostTable

FLAT = 0.02
"""A step that grows by less than this share from one token a row to a whole block: scheduling cannot gain."""


class BreakEven(NamedTuple):
    """For one batch size, context and verify length: the accepted length above which speculation gains, and the
    most that it can gain (everything accepted)."""

    rows: int
    context: int
    length: int
    accepted_length: float
    best_gain: float


def break_even(table: CostTable) -> list[BreakEven]:
    """One entry for every measured batch size, context and verify length."""
    entries = []
    for rows in table.rows:
        for context in table.contexts:
            cost = table.step_cost(rows, context)
            sizes = [tokens // rows for tokens, _ in cost.points if tokens % rows == 0]
            plain = float(cost.seconds(np.array(rows))) + table.overhead_seconds
            for length in (size - 1 for size in sizes if size > 1):
                seconds = 1.0 / cost.sps(rows * (length + 1))
                needed = seconds / plain
                entries.append(BreakEven(rows, context, length, needed, (length + 1) / needed))
    return entries


def is_flat(table: CostTable) -> bool:
    """Whether verifying everything costs as little as verifying nothing, at every batch size and context."""
    return all(table.step_cost(rows, context).is_flat(FLAT) for rows in table.rows for context in table.contexts)
