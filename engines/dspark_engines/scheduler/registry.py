"""Schedulers by name, imported only when asked for."""

from __future__ import annotations

from importlib import import_module

from dspark_engines.errors import DsparkError
from dspark_engines.scheduler.base import Scheduler
from dspark_engines.scheduler.cost import StepCost
from dspark_engines.scheduler.spec import Algorithm1Spec, AsyncSpec, FixedSpec, SchedulerSpec, ThresholdSpec

SPECS: dict[str, type[SchedulerSpec]] = {
    spec.name: spec for spec in (FixedSpec, ThresholdSpec, Algorithm1Spec, AsyncSpec)
}
SCHEDULERS = {
    "fixed": "dspark_engines.scheduler.fixed:FixedScheduler",
    "threshold": "dspark_engines.scheduler.threshold:ThresholdScheduler",
    "algorithm1": "dspark_engines.scheduler.algorithm1:Algorithm1Scheduler",
    "async": "dspark_engines.scheduler.async_:AsyncScheduler",
}


def scheduler_names() -> tuple[str, ...]:
    """Names that `get_scheduler` knows, for help texts and choices."""
    return tuple(SCHEDULERS)


def get_scheduler(spec: SchedulerSpec | str, cost: StepCost | None = None) -> Scheduler:
    """A new scheduler; a name stands for its spec with the defaults.

    Raises `DsparkError` when the name is unknown or the scheduler needs a cost table and there is none.
    """
    if isinstance(spec, str):
        if spec not in SPECS:
            raise DsparkError(f"no scheduler called '{spec}'", hint=f"available: {', '.join(SCHEDULERS)}")
        spec = SPECS[spec]()
    module, _, attribute = SCHEDULERS[spec.name].partition(":")
    kind = getattr(import_module(module), attribute)
    if kind.uses_cost and cost is None:
        raise DsparkError(
            f"scheduler '{spec.name}' needs a cost table",
            hint="run `dspark-export profile BUNDLE`, or choose 'fixed' or 'threshold'",
        )
    scheduler: Scheduler = kind(spec, cost)
    return scheduler
