"""Options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar, get_args

import click

from dspark_engines.backends import CompileOptions, EnginePrecision, backend_names
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
    text = "Engine threads; 0: as `profile` chose for this machine, without it all cores."
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
        help="Draft and verify: always, never, or as the bundle says and, for schedulers that know the cost, only "
        "where it pays.",
    )
    off = click.option("--no-speculation", is_flag=True, help="The same as --speculation off: decode plainly.")
    return choice(off(function))


def compile_options(function: F) -> F:
    """What engines are compiled for; `take_compile_options` reads it."""
    decorators = [
        click.option(
            "--engine-precision",
            type=click.Choice(get_args(EnginePrecision)),
            help="What engines compute in; by default fp32 on the CPU, bf16 on GPUs, fp16 where TensorRT has none.",
        ),
        click.option(
            "--compute-capability",
            callback=_capability,
            help="The GPU that engines are for, such as 8.9; this machine's without it.",
        ),
        click.option("--workspace", type=click.IntRange(min=1), help="Most scratch memory of a GPU build, in MiB."),
        click.option("--timing-cache", type=PATH, help="Read and write TensorRT's timings here."),
        click.option(
            "--token-buckets",
            callback=_buckets,
            help="Sizes of GPU steps in tokens of all rows together, such as 1,2,4,8,64; powers of two without it.",
        ),
        click.option(
            "--plugins/--no-plugins",
            default=None,
            help="Run the custom ops as plugins with kernels of ours, or their bodies in standard operators; without "
            "it plugins where the backend takes them.",
        ),
        click.option(
            "--greedy-drafts/--sampled-drafts",
            default=False,
            help="A GPU drafter for temperature 0 only, whose logits stay on the GPU, or one for any temperature.",
        ),
    ]
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


def take_compile_options(options: dict[str, Any]) -> CompileOptions:
    """Remove the options of `compile_options` from a command's and return them."""
    return CompileOptions(
        precision=options.pop("engine_precision"),
        compute_capability=options.pop("compute_capability"),
        workspace_mib=options.pop("workspace") or 0,
        timing_cache=options.pop("timing_cache"),
        token_buckets=options.pop("token_buckets"),
        plugins=options.pop("plugins"),
        greedy_drafts=options.pop("greedy_drafts"),
    )


def _capability(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """ "8.9" from 8.9, 89 or sm_89."""
    if value is None:
        return None
    match = re.fullmatch(r"(?:sm_?)?(\d+)\.?(\d)", value.strip().lower())
    if match is None:
        raise click.BadParameter(f"{value!r} is not of the form 8.9", context, parameter)
    return f"{match[1]}.{match[2]}"


def _buckets(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...]:
    """Numbers from a list with commas."""
    try:
        sizes = tuple(int(part) for part in (value.split(",") if value else ()))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of numbers", context, parameter) from None
    if any(size < 1 for size in sizes):
        raise click.BadParameter("every size must be at least 1", context, parameter)
    return sizes


def overwrite_option(function: F) -> F:
    """--overwrite."""
    return click.option("--overwrite", is_flag=True, help="Replace what is already there.")(function)


def checkpoint_options(function: F) -> F:
    """Where from, where to, how large: what `build` and `export` take."""
    decorators = [
        click.option("--target", type=PATH, required=True, help="A .gguf file or a Hugging Face directory."),
        click.option("--drafter", type=PATH, required=True, help="A DeepSpec drafter directory."),
        click.option("--output", type=PATH, required=True, help="The bundle to write."),
        click.option(
            "--context-length",
            type=click.IntRange(min=16),
            default=2048,
            help="Most tokens of a request, prompt and output together.",
        ),
        click.option("--prefill-chunk", type=click.IntRange(min=1), default=256, help="Prompt tokens run in one step."),
        click.option("--slots", type=click.IntRange(min=1, max=64), default=8, help="Most requests at once."),
        click.option(
            "--precision",
            type=click.Choice(["fp32", "int8"]),
            default="fp32",
            help="Of the linear layers; int8 is exact to the bit whatever shares a step.",
        ),
        click.option(
            "--keep-fp32",
            "keep",
            multiple=True,
            metavar="LAYER",
            help="A layer that int8 leaves alone, such as target.layers.0.mlp.down_proj; may be given several times.",
        ),
        click.option(
            "--speculation/--no-speculation", default=True, help="Whether runtimes speculate unless told otherwise."
        ),
        overwrite_option,
        json_option,
    ]
    for decorator in reversed(decorators):
        function = decorator(function)
    return function
