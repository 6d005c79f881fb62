"""Calibrate a bundle: trace, fit, validate, write everything that belongs to it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dspark_calibration import StsCalibration, TraceStore
from dspark_calibration.report import Report
from dspark_calibration.traces import merge_traces
from dspark_engines.bundle import Bundle, check_folder, engine_identity
from dspark_engines.errors import BundleError
from dspark_engines.measured import STS, save_sts
from dspark_engines.progress import Reporter
from dspark_export.calibrating.errors import unwritable
from dspark_export.calibrating.fitting import FitPlan, fit, load_halves
from dspark_export.calibrating.plan import TracePlan
from dspark_export.calibrating.replay import MeasuredMachine
from dspark_export.calibrating.reporting import TRACES, make_report, read_costs
from dspark_export.calibrating.tracing import trace_prompts
from dspark_export.calibrating.writing import write_interchange, write_report
from dspark_export.prompts import Prompt


@dataclass(frozen=True)
class Calibrated:
    """What came out, and where it was written."""

    sts: StsCalibration
    report: Report
    files: list[Path]


@dataclass(frozen=True)
class CalibrationPlan:
    """What is traced and how it is fitted. `traces` None: inside the bundle."""

    trace: TracePlan = field(default_factory=TracePlan)
    fit: FitPlan = field(default_factory=FitPlan)
    traces: Path | None = None
    overwrite: bool = False

    def folder(self, bundle: Bundle) -> Path:
        """Where the traces lie."""
        return self.traces or bundle.file(TRACES)


def calibrate(bundle: Bundle, prompts: Sequence[Prompt], plan: CalibrationPlan, reporter: Reporter) -> Calibrated:
    """Trace what is not traced yet, then fit and write. Raises `DsparkError`; finished prompts are kept."""
    check_folder(bundle.file(STS).parent, bundle.path)
    store = trace_prompts(bundle, prompts, plan.trace, prepare(bundle, plan), reporter)
    return finish(bundle, store, plan, reporter)


def merge(bundle: Bundle, folders: Sequence[Path], plan: CalibrationPlan, reporter: Reporter) -> Calibrated:
    """Lay the shards in `folders` together, then fit and write, as one run would have."""
    check_folder(bundle.file(STS).parent, bundle.path)
    identity = engine_identity(bundle.manifest, plan.trace.backend)
    for folder in folders:
        if TraceStore.open(folder).header.bundle != identity:
            raise BundleError(f"{folder}: the traces are of another bundle", hint="trace this bundle")
    try:
        store = merge_traces(folders, prepare(bundle, plan, keep=folders))
    except OSError as error:
        raise unwritable(plan.folder(bundle), error) from error
    return finish(bundle, store, plan, reporter)


def prepare(bundle: Bundle, plan: CalibrationPlan, keep: Sequence[Path] = ()) -> Path:
    """The traces' folder, emptied if that was asked for and it holds traces."""
    folder = plan.folder(bundle)
    kept = any(folder.resolve() == other.resolve() for other in keep)
    if plan.overwrite and not kept and (folder / "header.json").is_file():
        shutil.rmtree(folder)
    return folder


def finish(bundle: Bundle, store: TraceStore, plan: CalibrationPlan, reporter: Reporter) -> Calibrated:
    """Fit, validate, write sts.json, the report and the interchange files."""
    sts = fit(store, load_halves(store, reporter), plan.trace.backend, plan.fit, reporter)
    path = save_sts(sts, bundle)
    report, files = write_reports(bundle, sts, store.path, reporter)
    return Calibrated(sts, report, [path, *files])


def write_reports(bundle: Bundle, sts: StsCalibration, traces: Path, reporter: Reporter) -> tuple[Report, list[Path]]:
    """Report and interchange of a calibrated bundle, anew from what is stored."""
    check_folder(bundle.file(STS).parent, bundle.path)
    report = make_report(bundle, traces, reporter)
    costs, _ = read_costs(bundle, sts.backend)
    machine = MeasuredMachine(costs, report.context) if costs and report.context is not None else None
    return report, write_report(report, bundle) + write_interchange(sts, report, machine, bundle)
