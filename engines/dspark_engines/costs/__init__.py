"""The cost table of a bundle on one machine: its file, whose it is, what it says about speculation."""

from dspark_engines.costs.breakeven import BreakEven, break_even, is_flat
from dspark_engines.costs.company import Costs, CostsInCompany
from dspark_engines.costs.fingerprint import Fingerprint, take_fingerprint
from dspark_engines.costs.measured import Measured, load_measured
from dspark_engines.costs.noise import Noise, noise_of
from dspark_engines.costs.table import COST_TABLE, CostTable, Timing, load_cost_table, save_cost_table

__all__ = [
    "COST_TABLE",
    "BreakEven",
    "CostTable",
    "Costs",
    "CostsInCompany",
    "Fingerprint",
    "Measured",
    "Noise",
    "Timing",
    "break_even",
    "is_flat",
    "load_cost_table",
    "load_measured",
    "noise_of",
    "save_cost_table",
    "take_fingerprint",
]
