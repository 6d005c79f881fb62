"""`dspark-export export`: a bundle without engines, to be compiled where it will run."""

from __future__ import annotations

from typing import Any

from dspark_export.commands.build import run_build
from dspark_export.commands.help import command as styled
from dspark_export.commands.options import checkpoint_options
from dspark_export.commands.recipe import recipe_option


@styled("export", "Write the ONNX graphs only.")
@recipe_option
@checkpoint_options
def command(as_json: bool, **options: Any) -> None:
    """Export target and drafter to ONNX; `compile` adds engines later.

    Of a recipe it takes what it has options for: backend, engines and calibration are left to the commands that follow.
    """
    run_build(None, as_json, options)
