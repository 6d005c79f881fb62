"""Schedulers by name, imported only when asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from dspark_engines.errors import DsparkError
from dspark_engines.measured.step_cost import StepCost
from dspark_engines.scheduler.base import Scheduler
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


def scheduler_spec(spec: SchedulerSpec | str) -> SchedulerSpec:
    """`spec`; a name stands for its spec with the defaults. Raises `DsparkError` when the name is unknown."""
    if not isinstance(spec, str):
        return spec
    _kind(spec)
    return SPECS[spec]()


def needs_cost(spec: SchedulerSpec) -> bool:
    """Whether this scheduler reads a cost table."""
    return _kind(spec.name).uses_cost


def needs_confidence(spec: SchedulerSpec) -> bool:
    """Whether this scheduler reads confidences."""
    return _kind(spec.name).uses_confidence


def get_scheduler(spec: SchedulerSpec | str, cost: StepCost | None = None) -> Scheduler:
    """A new scheduler, by its spec or by name.

    Raises `DsparkError` when the name is unknown or the scheduler needs a cost table and there is none.
    """
    spec = scheduler_spec(spec)
    kind: Any = _kind(spec.name)
    if kind.uses_cost and cost is None:
        raise DsparkError(
            f"scheduler '{spec.name}' needs a cost table",
            hint="run `dspark-export profile BUNDLE`, or choose 'fixed' or 'threshold'",
        )
    scheduler: Scheduler = kind(spec, cost)
    return scheduler


def _kind(name: str) -> type[Scheduler]:
    if name not in SCHEDULERS:
        raise DsparkError(f"no scheduler called '{name}'", hint=f"available: {', '.join(SCHEDULERS)}")
    module, _, attribute = SCHEDULERS[name].partition(":")
    kind: type[Scheduler] = getattr(import_module(module), attribute)
    return kind
