"""What was measured on one machine and stored in a bundle: costs, the layout of cores, the calibration."""

from dspark_engines.measured.breakeven import BreakEven, break_even, is_flat
from dspark_engines.measured.calibration import STS, Confidence, load_confidence, read_sts, save_sts
from dspark_engines.measured.cost_table import (
    COST_TABLE,
    Costs,
    CostTable,
    MeasuredDrafting,
    Timing,
    load_cost_table,
    save_cost_table,
)
from dspark_engines.measured.file import Measured, load_measured
from dspark_engines.measured.fingerprint import Fingerprint, take_fingerprint
from dspark_engines.measured.noise import Noise, noise_of
from dspark_engines.measured.placement import (
    PLACEMENT,
    CoreLayout,
    LayoutTiming,
    MeasuredLayout,
    load_placement,
    resolve_engines,
    save_placement,
)
from dspark_engines.measured.prior import BestLength, DraftPrior, best_length
from dspark_engines.measured.step_cost import StepCost

__all__ = [
    "COST_TABLE",
    "PLACEMENT",
    "STS",
    "BestLength",
    "BreakEven",
    "Confidence",
    "CoreLayout",
    "CostTable",
    "Costs",
    "DraftPrior",
    "Fingerprint",
    "LayoutTiming",
    "Measured",
    "MeasuredDrafting",
    "MeasuredLayout",
    "Noise",
    "StepCost",
    "Timing",
    "best_length",
    "break_even",
    "is_flat",
    "load_confidence",
    "load_cost_table",
    "load_measured",
    "load_placement",
    "noise_of",
    "read_sts",
    "resolve_engines",
    "save_cost_table",
    "save_placement",
    "save_sts",
    "take_fingerprint",
]
