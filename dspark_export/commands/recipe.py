"""Recipes: a deployment's build options in a TOML file, each of which an option of the same name overrides."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from dspark_calibration import first_problem
from dspark_engines.bundle import Precision
from dspark_engines.errors import DsparkError
from dspark_engines.text_file import read_text
from dspark_export.commands.engine_options import engines_table, recipe_defaults
from dspark_export.commands.paths import PATH

F = TypeVar("F", bound=Callable[..., Any])


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CheckpointTable(_Table):
    """[target]."""

    path: str


class DrafterTable(CheckpointTable):
    """[drafter]; `vocabulary` is a number of tokens, or a file of their ids; `draft_length` is that of chains."""

    vocabulary: PositiveInt | str | None = None
    draft_length: PositiveInt | None = None


class FurtherTable(CheckpointTable):
    """[drafters.NAME]: a further drafter over the same target."""


class LimitsTable(_Table):
    """[limits]."""

    context_length: PositiveInt
    prefill_chunk: PositiveInt
    slots: PositiveInt


class CalibrationTable(_Table):
    """[calibration]: the prompt set that the bundle is calibrated on when it is built."""

    prompts: str
    max_new_tokens: PositiveInt = 128


EnginesTable = engines_table(_Table)


class Recipe(_Table):
    """A build recipe; paths are relative to the current directory, as on the command line."""

    target: CheckpointTable
    drafter: DrafterTable | None = None
    drafters: dict[str, FurtherTable] = {}
    backend: str
    precision: Precision
    keep_fp32: list[str] = []
    limits: LimitsTable
    speculation: bool = True
    calibration: CalibrationTable | None = None
    engines: EnginesTable = Field(  # type: ignore[valid-type]  # made from the options; older recipes say [tensorrt]
        default=EnginesTable(), validation_alias=AliasChoices("engines", "tensorrt")
    )


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe. Raises `DsparkError` naming the key that is wrong."""
    try:
        recipe = Recipe.model_validate(tomllib.loads(read_text(path)))
    except OSError as error:
        raise DsparkError(f"{path}: {error.strerror}", hint="--recipe takes a TOML file") from None
    except ValidationError as error:
        raise DsparkError(f"{path}: {first_problem(error)}", hint="see engines/recipes/ for examples") from None
    except RecursionError:
        raise DsparkError(f"{path}: nested too deeply", hint="see engines/recipes/ for examples") from None
    except ValueError as error:  # tomllib's
        raise DsparkError(f"{path}: not TOML: {error}", hint="see engines/recipes/ for examples") from None
    if recipe.drafters and recipe.drafter is None:
        raise DsparkError(f"{path}: [drafters] without [drafter]", hint="[drafter] is the one the bundle is known by")
    return recipe


def recipe_option(function: F) -> F:
    """--recipe FILE: its values become the defaults of the other options. The command gets the path."""
    return click.option(
        "--recipe",
        type=PATH,
        is_eager=True,
        callback=_apply,
        help="Build recipe (TOML); options given here override it.",
    )(function)


def _drafter_defaults(recipe: Recipe) -> dict[str, Any]:
    first = recipe.drafter
    if first is None:
        return {}
    named = [first.path, *(f"{name}={table.path}" for name, table in recipe.drafters.items())]
    vocabulary = None if first.vocabulary is None else str(first.vocabulary)
    return {"drafters": named, "draft_vocabulary": vocabulary, "draft_length": first.draft_length}


def _apply(context: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    if path is None:
        return None
    recipe = read_recipe(path)
    context.default_map = {
        "target": recipe.target.path,
        **_drafter_defaults(recipe),
        "backend": recipe.backend,
        "context_length": recipe.limits.context_length,
        "prefill_chunk": recipe.limits.prefill_chunk,
        "slots": recipe.limits.slots,
        "precision": recipe.precision,
        "keep": recipe.keep_fp32,
        "speculation": recipe.speculation,
        **recipe_defaults(recipe.engines),
    }
    if recipe.calibration is not None:
        named = {"prompts": recipe.calibration.prompts, "max_new_tokens": recipe.calibration.max_new_tokens}
        context.default_map = {**context.default_map, **named}
    return path
