"""`dspark-export compile`: engines for an exported bundle."""

from __future__ import annotations

from pathlib import Path

import click

from dspark_export.commands.console import print_json, reporting
from dspark_export.commands.options import backend_option, bundle_argument, json_option, overwrite_option


@click.command("compile")
@bundle_argument
@backend_option
@overwrite_option
@json_option
def command(bundle: Path, backend: str, overwrite: bool, as_json: bool) -> None:
    """Compile the graphs of BUNDLE for a backend."""
    from dspark_export.bundling import compile_bundle

    with reporting() as reporter:
        manifest = compile_bundle(bundle, backend, reporter, overwrite=overwrite)
    info = next(info for info in manifest.backends if info.name == backend)
    if as_json:
        print_json({"bundle": str(bundle), "backend": info.model_dump()})
    else:
        click.echo(f"{bundle}: {len(info.engines)} engines for {info.name} {info.version}")
