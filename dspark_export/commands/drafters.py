"""Which drafter of a bundle, and the drafters of a build, on the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from dspark_engines import Bundle, open_bundle
from dspark_export.commands.paths import PATH
from dspark_export.named_path import NAME, NamedPath

F = TypeVar("F", bound=Callable[..., Any])


class NamedPathType(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2 only
    """`PATH`, or `NAME=PATH`; what is there as it stands is a path, whatever is in its name."""

    name = "[NAME=]PATH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> NamedPath:
        """The name, empty where none is given, and the path."""
        if isinstance(value, NamedPath):
            return value
        name, equals, rest = str(value).partition("=")
        if not equals or not NAME.fullmatch(name) or Path(str(value)).exists():
            return NamedPath("", PATH.convert(value, param, ctx))
        return NamedPath(name, PATH.convert(rest, param, ctx))


def drafter_option(function: F) -> F:
    """--drafter NAME: which drafter of the bundle."""
    return click.option(
        "--drafter",
        metavar="NAME",
        help="Which drafter of the bundle: one of its own, ngram (prompt lookup) or none (default: its first).",
    )(function)


def open_seen(path: Path, drafter: str | None) -> Bundle:
    """The bundle at `path` seen through the drafter called so; None: through the one that it is known by."""
    bundle = open_bundle(path)
    return bundle if drafter is None else bundle.with_drafter(drafter)


def first_and_further(named: Sequence[NamedPath]) -> dict[str, Any]:
    """What `BuildPlan` makes of the drafters of a build."""
    if not named:
        return {"drafter": None}
    return {"drafter": named[0].path, "label": named[0].name, "further": tuple(named[1:])}
