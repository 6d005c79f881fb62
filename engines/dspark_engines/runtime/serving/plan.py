"""What a runtime will do, decided from its options, the bundle and this machine before an engine is opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dspark_engines.backends import EngineOptions, get_backend
from dspark_engines.bundle import Bundle
from dspark_engines.errors import RequestError
from dspark_engines.measured import (
    COST_TABLE,
    Confidence,
    CostTable,
    load_confidence,
    load_cost_table,
    load_placement,
    take_fingerprint,
)
from dspark_engines.runtime.serving.pipeline import Cohorts, Pipeline, plan_cohorts
from dspark_engines.scheduler import FixedSpec, SchedulerSpec, needs_confidence, needs_cost, scheduler_spec

Speculation = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class RuntimeOptions:
    """How a runtime serves. `max_batch` 0 means as many requests at once as the bundle was built for.

    `speculation` "auto" does as the bundle says, and with a scheduler other than `fixed` and a cost table drafts
    only for whom it pays; "on" drafts always, "off" never. A request may go without by itself.
    """

    backend: str = "onnxruntime"
    engines: EngineOptions = field(default_factory=EngineOptions)
    max_batch: int = 0
    max_queue: int = 1024
    scheduler: SchedulerSpec | str = field(default_factory=FixedSpec)
    pipeline: Pipeline = "auto"
    speculation: Speculation = "auto"


@dataclass(frozen=True, kw_only=True)
class RuntimePlan:
    """`scheduler` is what decides: `fixed` where the one that was asked for lacks its cost table or calibration.

    `costs` None: nobody asks what a step costs. With `selective`, only those requests draft for whom it pays.
    """

    cohorts: Cohorts
    speculating: bool
    scheduler: SchedulerSpec
    costs: CostTable | None
    confidence: Confidence
    selective: bool


def plan_runtime(bundle: Bundle, options: RuntimeOptions, *, own_engines: bool | None = None) -> RuntimePlan:
    """The plan for `bundle`; what a bundle lacks for it is warned about.

    `own_engines`: whether engines that are open already are one pair for each cohort; None where none are.
    Raises `RequestError` for more requests at once than the bundle was built for.
    """
    wanted, speculating = scheduler_spec(options.scheduler), is_speculating(bundle, options)
    cohorts = _cohorts(bundle, options, own_engines)
    costs = _costs(bundle, options, wanted, cohorts) if speculating else None
    confidence = Confidence(None, True)
    if speculating and needs_confidence(wanted):
        confidence = load_confidence(bundle, options.backend)
    able = confidence.trusted and (costs is not None or not needs_cost(wanted))
    return RuntimePlan(
        cohorts=cohorts,
        speculating=speculating,
        scheduler=wanted if able else FixedSpec(),
        costs=costs,
        confidence=confidence,
        selective=costs is not None and options.speculation == "auto",
    )


def is_speculating(bundle: Bundle, options: RuntimeOptions) -> bool:
    """Whether requests may be drafted for at all."""
    return {"auto": bundle.manifest.speculation, "on": True, "off": False}[options.speculation]


def _cohorts(bundle: Bundle, options: RuntimeOptions, own_engines: bool | None) -> Cohorts:
    limit = bundle.manifest.limits.slots
    slots = options.max_batch or limit
    if slots > limit:
        raise RequestError(
            f"{slots} requests at once, the bundle was built for {limit}", hint="build it with more --slots"
        )
    own = get_backend(options.backend).own_engines if own_engines is None else own_engines
    placement = None if options.engines.threads else load_placement(bundle, options.backend)
    return plan_cohorts(options.pipeline, slots, options.engines, own_engines=own, placement=placement)


def _costs(bundle: Bundle, options: RuntimeOptions, wanted: SchedulerSpec, cohorts: Cohorts) -> CostTable | None:
    """The bundle's cost table, if it is of use and was measured here."""
    if wanted.name == FixedSpec.name:
        return None
    if not needs_cost(wanted) and not bundle.file(COST_TABLE).is_file():
        return None
    return load_cost_table(bundle, take_fingerprint(bundle, options.backend, cohorts.exclusive))
