"""What calibration leaves in a bundle, each file in one rename."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dspark_calibration import StsCalibration
from dspark_calibration.interchange import sglang_cost_table, sglang_temperatures, tensorrt_llm_temperatures
from dspark_calibration.report import Report
from dspark_calibration.report.page import render
from dspark_engines.bundle import Bundle, write_file
from dspark_engines.measured import StepCost
from dspark_export.calibrating.replay import MeasuredMachine

REPORT_JSON, REPORT_HTML = "calibration/report.json", "calibration/report.html"
INTERCHANGE = "calibration/interchange"


def write_report(report: Report, bundle: Bundle) -> list[Path]:
    """report.json and report.html."""
    files = {REPORT_JSON: report.model_dump_json(indent=1) + "\n", REPORT_HTML: render(report)}
    return [write_file(bundle.file(name), content) for name, content in files.items()]


def write_interchange(
    sts: StsCalibration, report: Report, machine: MeasuredMachine | None, bundle: Bundle
) -> list[Path]:
    """Temperatures, and where there is one the cost table, as other servers read them."""
    before = [position.before.ece for position in report.positions]
    after = [position.temperature_scaling.ece for position in report.positions]
    sources = "+".join(report.traces.sources)
    files: dict[str, Mapping[str, Any]] = {
        "sglang_sts.json": sglang_temperatures(sts.sts_temperatures, sources, sts.fit_rounds, before, after),
        "tensorrt_llm_sts.json": tensorrt_llm_temperatures(sts.sts_temperatures),
    }
    if machine is not None:
        files["sglang_sps_table.json"] = sglang_cost_table(steps_per_second(machine))
    folder = bundle.file(INTERCHANGE)
    return [write_file(folder / name, json.dumps(content, indent=1) + "\n") for name, content in files.items()]


def steps_per_second(machine: MeasuredMachine) -> list[tuple[int, float]]:
    """(tokens, rounds a second), by tokens alone: what several batch sizes measured for a size is averaged, the
    draft and the time outside the engines included, and more tokens never take less time."""
    seconds: dict[int, list[float]] = {}
    for rows in machine.loads:
        cost = machine.step_cost(rows)
        for tokens, taken in cost.points:
            seconds.setdefault(tokens, []).append(taken + cost.fixed_seconds)
    pooled = StepCost([(tokens, sum(times) / len(times)) for tokens, times in seconds.items()])
    return [(tokens, 1.0 / taken) for tokens, taken in pooled.points]
