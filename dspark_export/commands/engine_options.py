"""Options of compiled engines on the command line and in recipes, made from the fields of `CompileOptions`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import click
from pydantic import BaseModel, PositiveInt, create_model

from dspark_engines.backends import CompileOptions
from dspark_export.commands.paths import PATH

F = TypeVar("F", bound=Callable[..., Any])
PREFIX = "engines_"
"""Of parameters, since `build` has a precision of its own."""


def compile_options(function: F) -> F:
    """An option for every knob; `take_compile_options` reads them."""
    for knob in reversed(list(_knobs())):
        function = click.option(knob.metadata["flag"], PREFIX + knob.name, **_click_type(knob))(function)
    return function


def take_compile_options(options: dict[str, Any]) -> CompileOptions:
    """Remove the options of `compile_options` from a command's and return them."""
    values = {knob.name: options.pop(PREFIX + knob.name) for knob in _knobs()}
    return CompileOptions(**{name: value for name, value in values.items() if value is not None})


def compile_flags() -> dict[str, str]:
    """Parameter to flag of every option, such as engines_workspace_mib: --workspace."""
    return {PREFIX + knob.name: knob.metadata["flag"].partition("/")[0] for knob in _knobs()}


def engines_table(base: type[BaseModel]) -> type[BaseModel]:
    """The table [engines] of a recipe: the knobs by their fields' names, empty where nothing is asked for."""
    columns: dict[str, Any] = {knob.name: (_recipe_type(knob), None) for knob in _knobs()}
    return create_model("EnginesTable", __base__=base, __doc__="[engines]: how they are compiled.", **columns)


def recipe_defaults(table: BaseModel) -> dict[str, Any]:
    """What a recipe's table says, as defaults of the options."""
    values = {PREFIX + knob.name: getattr(table, knob.name) for knob in _knobs()}
    return {name: ",".join(map(str, value)) if isinstance(value, list) else value for name, value in values.items()}


def _knobs() -> Iterator[Field[Any]]:
    return (field for field in fields(CompileOptions) if "flag" in field.metadata)


def _hint(knob: Field[Any]) -> Any:
    return get_type_hints(CompileOptions)[knob.name]


def _click_type(knob: Field[Any]) -> dict[str, Any]:
    """How click takes a knob, by the field's type."""
    hint, text = _hint(knob), {"help": knob.metadata["help"], "default": None}
    if "choices" in knob.metadata:
        return text | {"type": click.Choice(get_args(knob.metadata["choices"]))}
    if hint == tuple[int, ...]:
        return text | {"callback": _sizes}
    if hint is int:
        return text | {"type": click.IntRange(min=1)}
    if hint == Path | None:
        return text | {"type": PATH}
    if hint in (bool, bool | None):
        return text | {"is_flag": True}
    return text | {"callback": _capability}


def _recipe_type(knob: Field[Any]) -> Any:
    hint = _hint(knob)
    if hint == tuple[int, ...]:
        return list[PositiveInt] | None
    if hint == Path | None:
        return str | None
    return PositiveInt | None if hint is int else hint | None


def _capability(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """ "8.9" from 8.9, 89 or sm_89."""
    if value is None:
        return None
    match = re.fullmatch(r"(?:sm_?)?(\d+)\.?(\d)", value.strip().lower())
    if match is None:
        raise click.BadParameter(f"{value!r} is not of the form 8.9", context, parameter)
    return f"{match[1]}.{match[2]}"


def _sizes(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """Numbers from a list with commas."""
    if not value:
        return None
    try:
        sizes = tuple(int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of numbers", context, parameter) from None
    if any(size < 1 for size in sizes):
        raise click.BadParameter("every size must be at least 1", context, parameter)
    return sizes
