"""What a runtime will do, decided from its options, the bundle and this machine before an engine is opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from dspark_engines.backends import EngineOptions, get_backend
from dspark_engines.bundle import Bundle
from dspark_engines.errors import RequestError
from dspark_engines.measured import (
    COST_TABLE,
    BestLength,
    Confidence,
    CostTable,
    DraftPrior,
    best_length,
    load_confidence,
    load_cost_table,
    load_placement,
    take_fingerprint,
)
from dspark_engines.runtime.serving.pipeline import Cohorts, Pipeline, plan_cohorts
from dspark_engines.scheduler import (
    FixedSpec,
    SchedulerSpec,
    ThresholdSpec,
    needs_confidence,
    needs_cost,
    scheduler_spec,
)

Speculation = Literal["auto", "on", "off"]
AUTO = "auto"
NEARLY = 0.97
"""The expected gain from which drafting is tried: prompts differ, and who does not gain is found out at the cost of
some rounds. A drafter of which 0.91 was expected in the mean left 0.95 (SmolLM2, int8)."""


@dataclass(frozen=True)
class RuntimeOptions:
    """How a runtime serves. `max_batch` 0 means as many requests at once as the bundle was built for.

    `speculation` "auto" does as the bundle says, and where costs are known drafts only for whom it pays; "on" drafts
    always, "off" never. A request may go without by itself. The scheduler "auto" is `threshold` in a calibrated bundle,
    else `fixed` at the length that pays most; where nobody knows whether drafting pays, it and the speculation "auto"
    decode plainly.
    """

    backend: str = "onnxruntime"
    engines: EngineOptions = field(default_factory=EngineOptions)
    max_batch: int = 0
    max_queue: int = 1024
    scheduler: SchedulerSpec | str = AUTO
    pipeline: Pipeline = "auto"
    speculation: Speculation = "auto"


@dataclass(frozen=True, kw_only=True)
class RuntimePlan:
    """`scheduler` is what decides: `fixed` where the one that was asked for lacks its cost table or calibration.

    `costs` None: nobody asks what a step costs. With `selective`, only those requests draft for whom it pays. `reason`:
    what was chosen and why, in a line.
    """

    cohorts: Cohorts
    speculating: bool
    scheduler: SchedulerSpec
    costs: CostTable | None
    confidence: Confidence
    prior: DraftPrior | None
    selective: bool
    reason: str


def plan_runtime(bundle: Bundle, options: RuntimeOptions, *, own_engines: bool | None = None) -> RuntimePlan:
    """The plan for `bundle`; what a bundle lacks for it is warned about.

    `own_engines`: whether engines that are open already are one pair for each cohort; None where none are.
    Raises `RequestError` for more requests at once than the bundle was built for.
    """
    cohorts, speculating = _cohorts(bundle, options, own_engines), is_speculating(bundle, options)
    if not speculating:
        return _plain(cohorts, f"plain decoding: {_why_not(bundle, options)}")
    if options.scheduler == AUTO:
        return _automatic(bundle, options, cohorts)
    wanted = scheduler_spec(options.scheduler)
    costs, confidence = _costs(bundle, options, wanted, cohorts), Confidence(None, True)
    if needs_confidence(wanted):
        confidence = load_confidence(bundle, options.backend)
    able = confidence.trusted and (costs is not None or not needs_cost(wanted))
    chosen = wanted if able else FixedSpec()
    return RuntimePlan(
        cohorts=cohorts,
        speculating=True,
        scheduler=chosen,
        costs=costs,
        confidence=confidence,
        prior=confidence.prior or _measured_prior(costs),
        selective=costs is not None and options.speculation == "auto",
        reason=f"drafting with scheduler '{chosen.name}', as asked for",
    )


def _automatic(bundle: Bundle, options: RuntimeOptions, cohorts: Cohorts) -> RuntimePlan:
    """The scheduler by what is known of this bundle on this machine."""
    costs, confidence, always = None, load_confidence(bundle, options.backend), options.speculation == "on"
    if bundle.file(COST_TABLE).is_file():
        costs = load_cost_table(bundle, take_fingerprint(bundle, options.backend, cohorts.exclusive))
    prior = confidence.prior or _measured_prior(costs)
    if not always and (costs is None or prior is None):
        missing = "what steps cost on this machine" if costs is None else "how many drafts are accepted"
        return _plain(cohorts, f"plain decoding: {missing} is not measured (dspark-export profile, or calibrate)")
    scheduler: SchedulerSpec = FixedSpec()
    reason = "drafting whole blocks: speculation is on, and what it costs is not measured"
    if costs is not None and prior is not None:
        expected = _expected(costs, prior)
        if not always and expected.gain < NEARLY:
            return _plain(cohorts, f"plain decoding: {_price(expected)}")
        calibrated = confidence.trusted and confidence.scaling is not None
        scheduler = ThresholdSpec() if calibrated else FixedSpec(expected.length)
        reason = f"drafting ({scheduler.name}): {_price(expected)}"
    return RuntimePlan(
        cohorts=cohorts,
        speculating=True,
        scheduler=scheduler,
        costs=costs,
        confidence=confidence,
        prior=prior,
        selective=costs is not None and not always,
        reason=reason,
    )


def _expected(costs: CostTable, prior: DraftPrior) -> BestLength:
    """For one request, at the shortest context that was measured."""
    context = costs.contexts[0]
    cost, draft = costs.step_cost(1, context), costs.draft_seconds(1, context)
    return best_length(prior, cost, draft, costs.overhead_seconds)


def _price(best: BestLength) -> str:
    return (
        f"{best.length} draft tokens a round bring {best.accepted:.2f} and cost {best.needed:.2f} tokens, "
        f"{best.gain:.2f} times plain decoding expected"
    )


def _measured_prior(costs: CostTable | None) -> DraftPrior | None:
    return costs.drafting.prior if costs is not None and costs.drafting is not None else None


def _plain(cohorts: Cohorts, reason: str) -> RuntimePlan:
    return RuntimePlan(
        cohorts=cohorts,
        speculating=False,
        scheduler=FixedSpec(),
        costs=None,
        confidence=Confidence(None, True),
        prior=None,
        selective=False,
        reason=reason,
    )


def _why_not(bundle: Bundle, options: RuntimeOptions) -> str:
    if not bundle.manifest.drafter.drafts:
        return "the bundle has no drafter"
    return "the bundle says so" if options.speculation == "auto" else "switched off"


def is_speculating(bundle: Bundle, options: RuntimeOptions) -> bool:
    """Whether requests may be drafted for at all. Raises `RequestError` where that is asked for without a drafter."""
    if not bundle.manifest.drafter.drafts:
        if options.speculation == "on":
            raise RequestError(
                f"{bundle.path}: has no drafter, so speculation cannot be on", hint="build it with --drafter"
            )
        return False
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
