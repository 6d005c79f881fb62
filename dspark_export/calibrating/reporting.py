"""The report of a bundle, from what is stored in it: traces, calibration, cost table."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from dspark_calibration import StsCalibration, TraceHeader, TraceStore
from dspark_calibration.report import Deployment, Report, Traces
from dspark_calibration.report.measure import Validation
from dspark_calibration.sts import fit_positions
from dspark_engines.backends import EngineOptions
from dspark_engines.bundle import Bundle, FileRecord, engine_identity
from dspark_engines.errors import BundleError
from dspark_engines.measured import COST_TABLE, CostTable, is_flat, read_sts, take_fingerprint
from dspark_engines.progress import Reporter
from dspark_export.calibrating.fitting import Halves, load_halves
from dspark_export.calibrating.loads import cost_rows, replay_loads, sources_of_confidence, sweep_thresholds
from dspark_export.calibrating.replay import MeasuredMachine
from dspark_export.calibrating.verdict import caveats, verdict

TRACES = "calibration/traces"
RESAMPLES = 200


def make_report(bundle: Bundle, folder: Path, reporter: Reporter) -> Report:
    """The report of a calibrated bundle whose traces are in `folder`.

    Raises `DsparkError` when it is not calibrated, the calibration is of other engines, or traces are missing.
    """
    sts = read_sts(bundle)
    store = TraceStore.open(folder)
    check_origin(bundle, sts, store.header)
    halves = load_halves(store, reporter).estimated(sts.estimator)
    reporter.step("measuring")
    per_position = fit_positions(halves.fit, sts.block_size, sts.bins)
    validation = Validation(halves.validation, sts, per_position, RESAMPLES)
    costs, missing = read_costs(bundle, sts.backend)
    context = int(np.median(halves.validation.context))
    return _assemble(
        bundle, sts, store.header, halves, validation, MeasuredMachine(costs, context) if costs else None, missing
    )


def _assemble(
    bundle: Bundle,
    sts: StsCalibration,
    header: TraceHeader,
    halves: Halves,
    validation: Validation,
    machine: MeasuredMachine | None,
    missing: str,
) -> Report:
    forms = sources_of_confidence(halves.validation, sts.scaling)
    loads = replay_loads(halves.validation, forms, machine) if machine else []
    ece, positions, traces = validation.ece(), validation.positions(), _traces(header, halves)
    notes = list(caveats(traces, ece, positions, loads, sts.has_offsets))
    if missing:
        notes.append(missing)
    elif machine and is_flat(machine.costs):
        notes.append("The cost table is flat: verifying everything costs nothing more, there is nothing to schedule.")
    return Report(
        verdict=verdict(loads, ece, traces),
        deployment=_deployment(bundle, sts, machine),
        traces=traces,
        ece=ece,
        before=validation.scores("before"),
        per_position_scaling=validation.scores("per_position_scaling"),
        temperature_scaling=validation.scores("temperature_scaling"),
        after=validation.scores("after"),
        offsets=sts.has_offsets,
        positions=positions,
        sources=validation.sources(header.prompts),
        context=machine.context if machine else None,
        costs=cost_rows(machine) if machine else [],
        loads=loads,
        sweep=sweep_thresholds(halves.validation, forms, machine),
        caveats=notes,
    )


def check_origin(bundle: Bundle, sts: StsCalibration, header: TraceHeader | None = None) -> None:
    """Raises `BundleError` when a calibration or traces are not of this bundle."""
    here = engine_identity(bundle.manifest, sts.backend)
    if sts.bundle != here:
        raise BundleError(
            f"{bundle.path}: its calibration was made for other engines", hint="run dspark-export calibrate again"
        )
    if header is not None and header.bundle != here:
        raise BundleError(f"{bundle.path}: the traces are of another bundle", hint="run dspark-export calibrate again")
    if header is not None and header.prompts_sha256 != sts.prompts_sha256:
        raise BundleError(
            f"{bundle.path}: the traces are not those that its calibration was fitted on",
            hint="run dspark-export calibrate again",
        )


def read_costs(bundle: Bundle, backend: str) -> tuple[CostTable | None, str]:
    """The bundle's cost table, wherever it was measured, or why there is none to use, as a caveat."""
    path = bundle.file(COST_TABLE)
    if not path.is_file():
        return None, "There is no cost table, so nothing is said about speed: `dspark-export profile` measures it."
    try:
        table = CostTable.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None, "The cost table cannot be read, so nothing is said about speed: run `dspark-export profile` again."
    if table.fingerprint.engines != take_fingerprint(bundle, backend, EngineOptions()).engines:
        return (
            None,
            "The cost table is of other engines and of no use here: run `dspark-export profile` again.",
        )
    return table, ""


def _deployment(bundle: Bundle, sts: StsCalibration, machine: MeasuredMachine | None) -> Deployment:
    manifest = bundle.manifest
    where = machine.costs.fingerprint if machine else None
    return Deployment(
        name=bundle.path.resolve().name,
        bundle=sts.bundle,
        created=manifest.created,
        target=manifest.target.name,
        target_sha256=_one_hash(manifest.target.files),
        drafter=manifest.drafter.name,
        drafter_sha256=_one_hash(manifest.drafter.files),
        precision=manifest.precision,
        backend=sts.backend,
        context_length=manifest.limits.context_length,
        slots=manifest.limits.slots,
        block_size=manifest.drafter.block_size,
        tools=manifest.tools,
        machine=f"{where.cpu}, {where.cores} cores, {where.threads} engine threads" if where else None,
        recipe=manifest.recipe.name if manifest.recipe else None,
        recipe_sha256=manifest.recipe.sha256 if manifest.recipe else None,
    )


def _one_hash(files: Sequence[FileRecord]) -> str:
    """sha256 over names and hashes."""
    lines = sorted(f"{record.path}\0{record.sha256}\n" for record in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _traces(header: TraceHeader, halves: Halves) -> Traces:
    fit, held_out = halves.fit, halves.validation
    return Traces(
        prompts=len(header.prompts),
        fit_prompts=len(np.unique(fit.prompt)),
        validation_prompts=len(np.unique(held_out.prompt)),
        rounds=len(fit) + len(held_out),
        fit_rounds=len(fit),
        validation_rounds=len(held_out),
        cut_rounds=halves.cut,
        empty_rounds=halves.empty,
        scores=header.scores,
        sources=list(dict.fromkeys(ref.source for ref in header.prompts)),
        prompts_sha256=header.prompts_sha256,
        max_new_tokens=header.max_new_tokens,
        temperature=header.temperature,
        seed=header.seed,
    )
