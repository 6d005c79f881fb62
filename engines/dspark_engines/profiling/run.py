"""All measurements of a bundle on this machine, in their order, stored in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dspark_engines.backends import EngineOptions, get_backend
from dspark_engines.bundle import Bundle
from dspark_engines.errors import BundleError, TextError
from dspark_engines.measured import (
    COST_TABLE,
    CoreLayout,
    CostTable,
    MeasuredDrafting,
    MeasuredLayout,
    save_cost_table,
    save_placement,
    take_fingerprint,
)
from dspark_engines.profiling.layouts import PlacementPlan, place
from dspark_engines.profiling.measure import ProfilePlan, measure
from dspark_engines.progress import Reporter
from dspark_engines.text_file import parse_json, read_text

CONTEXTS = (64, 512, 1536)
PLACEMENT_CONTEXT = 256


def profile_plan(
    bundle: Bundle, backend: str, *, rows: Sequence[int] = (), contexts: Sequence[int] = (), **more: Any
) -> ProfilePlan:
    """What is measured: all compiled batch sizes and a few contexts, where none are given. `more` goes to the plan."""
    return ProfilePlan(_rows(rows, bundle, backend), _contexts(contexts, bundle), **more)


def profile_bundle(
    bundle: Bundle, backend: str, options: EngineOptions, plan: ProfilePlan, reporter: Reporter
) -> tuple[CostTable, MeasuredLayout | None]:
    """Measure the engines and store what was found; the placement first, unless `options` give the threads.

    Raises `BundleError` for a bundle without a drafter.
    """
    if not bundle.manifest.drafter.drafts:
        raise BundleError(
            f"{bundle.path}: has no drafter, and what a profile says is whether drafting pays",
            hint="build it with --drafter",
        )
    placement = None
    if not options.threads:
        wanted = PlacementPlan(plan.rows, min(PLACEMENT_CONTEXT, max(plan.contexts)))
        placement = place(bundle, backend, wanted, reporter.step("placing threads"))
        options = placement.exclusive.engines
    fingerprint = take_fingerprint(bundle, backend, options)
    with get_backend(backend).open(bundle, options) as engines:
        table = measure(bundle, engines, plan, fingerprint, reporter.step("measuring costs"))
    if placement is not None and placement.shared is not None:
        table = table.model_copy(update={"shared": _measure_shared(bundle, backend, placement.shared, plan, reporter)})
    table = table.model_copy(update={"drafting": _drafting_before(bundle)})
    if placement is not None:
        save_placement(placement, bundle)
    save_cost_table(table, bundle)
    return table, placement


def _drafting_before(bundle: Bundle) -> MeasuredDrafting | None:
    """What an earlier table of these engines says of drafts, which no machine changes."""
    path = bundle.file(COST_TABLE)
    if not path.is_file():
        return None
    try:
        return CostTable.model_validate(parse_json(read_text(path))).drafting
    except (OSError, ValueError, TextError):
        return None


def _measure_shared(
    bundle: Bundle, backend: str, layout: CoreLayout, plan: ProfilePlan, reporter: Reporter
) -> CostTable:
    """What steps of one of two cohorts cost while the other is at work as well, at the shortest and longest context."""
    most = (bundle.manifest.limits.slots + 1) // 2
    contexts = sorted({min(plan.contexts), max(plan.contexts)})
    smaller = replace(plan, rows=sorted({min(rows, most) for rows in plan.rows}), contexts=contexts)
    options, step = layout.engines, reporter.step("measuring costs while another cohort runs")
    with get_backend(backend).open(bundle, options) as mine, get_backend(backend).open(bundle, options) as other:
        return measure(bundle, mine, smaller, take_fingerprint(bundle, backend, options), step, other)


def _contexts(chosen: Sequence[int], bundle: Bundle) -> list[int]:
    """Contexts that leave room for a block."""
    info = bundle.manifest
    longest = info.limits.context_length - info.drafter.block_size - 1
    return sorted({min(context, longest) for context in chosen or CONTEXTS})


def _rows(chosen: Sequence[int], bundle: Bundle, backend: str) -> list[int]:
    """Batch sizes: those that engines were compiled for."""
    compiled = {e.slots for b in bundle.manifest.backends if b.name == backend for e in b.engines}
    return sorted(set(chosen) or compiled)
