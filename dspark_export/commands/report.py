"""`dspark-export report`: a deployment's page, or several deployments on one."""

from __future__ import annotations

from pathlib import Path

import click

from dspark_calibration import first_problem
from dspark_calibration.report import Report
from dspark_calibration.report.page import render_comparison, require
from dspark_engines.bundle import check_file_place, write_file
from dspark_engines.errors import BundleError, DsparkError
from dspark_engines.measured import read_sts
from dspark_export.calibrating.reporting import TRACES
from dspark_export.calibrating.run import write_reports
from dspark_export.calibrating.writing import REPORT_JSON
from dspark_export.commands.console import print_json, print_text, reporting
from dspark_export.commands.drafters import drafter_option, open_seen
from dspark_export.commands.help import command as styled
from dspark_export.commands.options import json_option
from dspark_export.commands.paths import PATH


@styled("report", "Write a deployment's report again.")
@click.argument("bundles", nargs=-1, required=True, type=PATH, metavar="BUNDLE...")
@click.option("--traces", type=PATH, help="Folder of the traces (default: inside BUNDLE).")
@click.option("--output", type=PATH, help="Where to write the comparison of several bundles.")
@drafter_option
@json_option
def command(
    bundles: tuple[Path, ...], traces: Path | None, output: Path | None, drafter: str | None, as_json: bool
) -> None:
    """Write the report of a calibrated BUNDLE anew, for instance after `profile`; or compare several on one page.

    A comparison reads each bundle's report.json and is written to --output (comparison.html without).
    """
    require()
    if len(bundles) == 1:
        if output is not None:
            raise DsparkError("--output is for comparisons", hint="one bundle's report is written into it")
        _one(bundles[0], drafter, traces, as_json)
    else:
        _several(bundles, drafter, output or Path("comparison.html"), as_json)


def _one(path: Path, drafter: str | None, traces: Path | None, as_json: bool) -> None:
    bundle = open_seen(path, drafter)
    sts = read_sts(bundle)
    with reporting() as reporter:
        report, files = write_reports(bundle, sts, traces or bundle.file(TRACES), reporter)
    if as_json:
        print_json({"files": [str(file) for file in files], **report.model_dump()})
        return
    print_text(report.verdict)
    for file in files:
        print_text(f"written: {file}")


def _several(paths: tuple[Path, ...], drafter: str | None, output: Path, as_json: bool) -> None:
    check_file_place(output)
    reports = [_read(path, drafter) for path in paths]
    write_file(output, render_comparison(reports))
    if as_json:
        verdicts = {str(path): report.verdict for path, report in zip(paths, reports, strict=True)}
        print_json({"comparison": str(output), "verdicts": verdicts})
        return
    for path, report in zip(paths, reports, strict=True):
        print_text(f"{path}: {report.verdict}")
    print_text(f"written: {output}")


def _read(path: Path, drafter: str | None) -> Report:
    bundle = open_seen(path, drafter)
    file = bundle.file(REPORT_JSON)
    try:
        return Report.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        raise BundleError(
            f"{path}: has no report", hint="run dspark-export calibrate, or report, on it first"
        ) from None
    except (OSError, ValueError) as error:
        raise BundleError(
            f"{file}: not a report ({first_problem(error)})", hint=f"write it anew: dspark-export report {path}"
        ) from None
