"""`--help` is for people: nothing is cut off, everything is in a group, and every option of engines has one source."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import click
import pytest

from dspark_engines.backends import CompileOptions, backend_names, get_backend
from dspark_export.commands.engine_options import compile_flags
from dspark_export.commands.main import COMMANDS, cli
from dspark_export.commands.recipe import read_recipe

ROOT = Path(__file__).resolve().parents[3]
LONGEST_SUMMARY = 45


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


def help_of(name: str) -> str:
    context = click.Context(command(name), info_name=name, terminal_width=100)
    return command(name).get_help(context)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_summary_is_cut_off(name: str) -> None:
    summary = command(name).short_help or ""
    assert 0 < len(summary) <= LONGEST_SUMMARY


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_does(name: str) -> None:
    for option in command(name).params:
        if isinstance(option, click.Option) and not option.is_eager:
            assert option.help, option.name


@pytest.mark.parametrize("name", ["build", "generate"])
def test_many_options_stand_in_groups(name: str) -> None:
    shown = help_of(name)
    titles = re.findall(r"^([A-Z][\w ]+):$", shown, re.MULTILINE)
    assert len(titles) > 4
    assert titles[-1] == "Other options"
    assert shown[shown.index("Other options:") :].count("--") == 1  # --help
    assert len(titles) == len(set(titles))


@pytest.mark.parametrize("name", ["build", "compile"])
def test_every_knob_of_engines_is_an_option(name: str) -> None:
    parameters = {parameter.name for parameter in command(name).params}
    assert parameters.issuperset(compile_flags())
    shown = help_of(name)
    assert all(flag in shown for flag in compile_flags().values())


def test_every_knob_is_a_key_of_recipes_and_followed_by_some_backend(tmp_path: Path) -> None:
    knobs = [field.name for field in fields(CompileOptions) if "flag" in field.metadata]
    recipe = read_recipe(ROOT / "engines" / "recipes" / "smollm2-rtx.toml")
    assert list(type(recipe.engines).model_fields) == knobs
    followed = {"precision"}.union(*(get_backend(name).supports for name in backend_names()))
    assert followed.issuperset(knobs)
    assert not any(get_backend(name).supports - set(knobs) - {"progress"} for name in backend_names())
