"""How much of each draft is verified: schedulers."""

from dspark_engines.scheduler.arrays import algorithm1_array
from dspark_engines.scheduler.base import Scheduler
from dspark_engines.scheduler.registry import (
    get_scheduler,
    needs_confidence,
    needs_cost,
    scheduler_names,
    scheduler_spec,
)
from dspark_engines.scheduler.spec import Algorithm1Spec, AsyncSpec, FixedSpec, SchedulerSpec, ThresholdSpec

__all__ = [
    "Algorithm1Spec",
    "AsyncSpec",
    "FixedSpec",
    "Scheduler",
    "SchedulerSpec",
    "ThresholdSpec",
    "algorithm1_array",
    "get_scheduler",
    "needs_confidence",
    "needs_cost",
    "scheduler_names",
    "scheduler_spec",
]
