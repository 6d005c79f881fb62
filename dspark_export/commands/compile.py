"""`dspark-export compile`: engines for an exported bundle, and a comparison of those that are there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from dspark_engines.backends import EngineOptions
from dspark_engines.bundle import open_bundle
from dspark_engines.errors import DsparkError
from dspark_export.commands.console import print_json, print_text, reporting, table_console
from dspark_export.commands.engine_options import compile_flags, compile_options, take_compile_options
from dspark_export.commands.help import command as styled
from dspark_export.commands.options import (
    backend_option,
    bundle_argument,
    json_option,
    overwrite_option,
)

if TYPE_CHECKING:  # it needs an extra of its own
    from dspark_export.checks.backends import BackendReport

FAILED = 1


@styled("compile", "Compile engines for an exported bundle.")
@bundle_argument
@backend_option
@compile_options
@click.option(
    "--compare",
    is_flag=True,
    help="Compile nothing: hold the bundle's engines (those of --backend, or all that run here) against the exported "
    "graphs on the same inputs. Exit code 1 when an output is out of tolerance. Needs the extra [compare].",
)
@overwrite_option
@json_option
@click.pass_context
def command(context: click.Context, /, bundle: Path, backend: str, **options: Any) -> int:
    """Compile the graphs of BUNDLE for a backend."""
    from dspark_export.bundling import compile_bundle

    settings = take_compile_options(options)
    if options["compare"]:
        _only_comparing(context)
        given = context.get_parameter_source("backend") is not click.core.ParameterSource.DEFAULT
        return _compare(bundle, [backend] if given else [], options["as_json"])
    with reporting() as reporter:
        manifest = compile_bundle(bundle, backend, reporter, overwrite=options["overwrite"], options=settings)
    info = next(info for info in manifest.backends if info.name == backend)
    if options["as_json"]:
        print_json({"bundle": str(bundle), "backend": info.model_dump()})
    else:
        print_text(f"{bundle}: {len(info.engines)} engines for {info.name} {info.version}")
    return 0


def _only_comparing(context: click.Context) -> None:
    """Options of a compilation say nothing to a comparison; whoever gives them expects one."""
    for name, option in {**compile_flags(), "overwrite": "--overwrite"}.items():
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise DsparkError(f"{option} does not go with --compare", hint="compile first, then compare")


def _compare(path: Path, names: list[str], as_json: bool) -> int:
    from dspark_export.checks.backends import compare_backends

    bundle = open_bundle(path)
    with reporting() as reporter:
        report = compare_backends(bundle, names, EngineOptions(), lambda name: reporter.step(f"comparing {name}"))
    if as_json:
        outputs = [
            {"backend": name, "output": output.what, "max_error": output.max_error, "rms_error": output.rms_error}
            | {"passed": output.passed}
            for name, outputs in report.outputs.items()
            for output in outputs
        ]
        print_json({"passed": report.passed, "outputs": outputs, "skipped": report.skipped})
    else:
        _show(report)
    return 0 if report.passed else FAILED


def _show(report: BackendReport) -> None:
    table = Table("backend", "output", "max error", "RMS error", "")
    for name, outputs in report.outputs.items():
        for output in outputs:
            errors = (f"{output.max_error:.3g}", f"{output.rms_error:.3g}")
            table.add_row(name, output.what, *errors, "ok" if output.passed else "FAILED")
    for name, reason in report.skipped.items():
        table.add_row(name, f"not run: {reason}", "", "", "skipped")
    table_console().print(table)
