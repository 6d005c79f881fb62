"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from dspark_engines.backends import backend_names
from dspark_export.commands.drafters import NamedPathType
from dspark_export.commands.paths import PATH

F = TypeVar("F", bound=Callable[..., Any])


def bundle_argument(function: F) -> F:
    """BUNDLE, a directory."""
    return click.argument("bundle", type=PATH)(function)


def json_option(function: F) -> F:
    """--json, one object on the last line of standard output."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")(function)


def threads_option(function: F) -> F:
    """--threads, for the engines."""
    text = "Threads of each engine. 0 takes what `profile` measured, or all cores that the process may use."
    return click.option("--threads", type=click.IntRange(min=0), default=0, help=text)(function)


def backend_option(function: F) -> F:
    """--backend, from the registry."""
    return click.option(
        "--backend", type=click.Choice(backend_names()), default=backend_names()[0], help="What runs the engines."
    )(function)


def speculation_options(function: F) -> F:
    """--speculation, and --no-speculation for its "off"."""
    choice = click.option(
        "--speculation",
        type=click.Choice(["auto", "on", "off"]),
        default="auto",
        help="on: always draft and verify. off: never. auto: as the bundle says, and only where it pays if costs are "
        "known.",
    )
    off = click.option("--no-speculation", is_flag=True, help="The same as --speculation off: decode plainly.")
    return choice(off(function))


def overwrite_option(function: F) -> F:
    """--overwrite."""
    return click.option("--overwrite", is_flag=True, help="Replace what is already there.")(function)


def checkpoint_options(function: F) -> F:
    """Where from, where to, how large: what `build` and `export` take."""
    decorators = [
        click.option(
            "--target", type=PATH, required=True, help="The target: a .gguf file or a Hugging Face directory."
        ),
        click.option(
            "--drafter",
            "drafters",
            type=NamedPathType(),
            multiple=True,
            help="A drafter: a directory of DeepSpec or speculators, or a GGUF file (none: plain decoding only). "
            "May be given several times; the bundle is known by the first, the others are chosen by name.",
        ),
        click.option(
            "--draft-vocabulary",
            metavar="N|FILE",
            help="Draft only the N tokens that the target says most in answer to --prompts, or those whose ids FILE "
            "lists. The draft step gets cheaper; output stays the same.",
        ),
        click.option(
            "--draft-length",
            type=click.IntRange(min=1, max=64),
            help="Tokens a round of drafters that draft one after the other, Eagle3 and MTP (default: as the "
            "checkpoint says, else 5 and 3). Others draft the block that they were trained for.",
        ),
        click.option("--output", type=PATH, required=True, help="The bundle to write."),
        click.option(
            "--context-length",
            type=click.IntRange(min=16),
            default=2048,
            help="Longest request, in tokens of prompt and output together.",
        ),
        click.option(
            "--prefill-chunk", type=click.IntRange(min=1), default=256, help="Prompt tokens that are read in one step."
        ),
        click.option(
            "--slots", type=click.IntRange(min=1, max=64), default=8, help="How many requests can run at once."
        ),
        click.option(
            "--precision",
            type=click.Choice(["fp32", "int8"]),
            default="fp32",
            help="Precision of the linear layers. int8 output does not depend on batch size.",
        ),
        click.option(
            "--keep-fp32",
            "keep",
            multiple=True,
            metavar="LAYER",
            help="A layer to keep in float32, such as target.layers.0.mlp.down_proj. May be given several times.",
        ),
        click.option("--speculation/--no-speculation", default=True, help="Whether runtimes speculate by default."),
        overwrite_option,
        json_option,
    ]
    for decorator in reversed(decorators):
        function = decorator(function)
    return function
