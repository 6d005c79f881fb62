"""`dspark-export convert`: a drafter from one layout to another."""

from __future__ import annotations

from pathlib import Path

import click

from dspark_export.commands.console import print_json, print_text, reporting
from dspark_export.commands.help import command as styled
from dspark_export.commands.options import json_option
from dspark_export.commands.paths import PATH

LAYOUTS = ("deepspec", "speculators", "gguf")


@styled("convert", "A drafter from one layout to another.")
@click.argument("drafter", type=PATH)
@click.option("--target", type=PATH, required=True, help="Its target; for gguf the target's .gguf file.")
@click.option("--to", "layout", type=click.Choice(LAYOUTS), required=True, help="The layout to write.")
@click.option("--output", type=PATH, required=True, help="A directory, or for gguf a file; must not exist.")
@json_option
def command(drafter: Path, target: Path, layout: str, output: Path, as_json: bool) -> None:
    """Write DRAFTER in another layout, every tensor as it is stored.

    What is written is read back and compared, number by number, before it gets its name. What a layout cannot hold is
    refused. A GGUF file carries the target's tokenizer, and the lines of the target's head that a reduced drafter uses.
    """
    from dspark_export.checkpoints.converting import convert_drafter

    with reporting() as reporter:
        tensors = convert_drafter(drafter, target, layout, output, reporter.step("comparing what was written"))
    files = [output] if output.is_file() else sorted(output.iterdir())
    size = sum(file.stat().st_size for file in files)
    if as_json:
        print_json({"output": str(output), "tensors": tensors, "bytes": size})
    else:
        print_text(f"{output}: {tensors} tensors, {size / 1e6:.0f} MB, the same numbers as {drafter}")
