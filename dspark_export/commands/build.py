"""`dspark-export build`: checkpoints in, deployable bundle out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dspark_engines.backends import CompileOptions
from dspark_engines.bundle import Limits, Manifest
from dspark_export.commands.console import print_json, reporting
from dspark_export.commands.options import (
    backend_option,
    checkpoint_options,
    compile_options,
    take_compile_options,
)
from dspark_export.commands.recipe import recipe_option


def run_build(backend: str | None, as_json: bool, options: dict[str, Any]) -> None:
    """Build (or only export, with `backend` None) from parsed options and say what was written."""
    from dspark_export.bundling import BuildPlan, build_bundle

    limits = Limits(
        context_length=options["context_length"],
        prefill_chunk=min(options["prefill_chunk"], options["context_length"]),
        slots=options["slots"],
    )
    output: Path = options["output"]
    plan = BuildPlan(
        options["target"],
        options["drafter"],
        output,
        backend,
        limits,
        options["overwrite"],
        options["speculation"],
        options["precision"],
        tuple(options["keep"]),
        options.get("compile", CompileOptions()),
    )
    with reporting() as reporter:
        manifest = build_bundle(plan, reporter)
    _report(output, manifest, as_json)


def _report(output: Path, manifest: Manifest, as_json: bool) -> None:
    size = sum(record.bytes for record in manifest.files)
    if as_json:
        print_json({"bundle": str(output), "files": len(manifest.files), "bytes": size})
    else:
        click.echo(f"{output}: {len(manifest.files)} files, {size / 1e6:.0f} MB")


@click.command("build")
@recipe_option
@checkpoint_options
@backend_option
@compile_options
def command(backend: str, as_json: bool, **options: Any) -> None:
    """Export target and drafter, compile them, and write a bundle."""
    options["compile"] = take_compile_options(options)
    run_build(backend, as_json, options)
