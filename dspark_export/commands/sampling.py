"""Options for how tokens are drawn and how much is verified."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from dspark_engines import SamplingParams
from dspark_engines.scheduler import scheduler_names

F = TypeVar("F", bound=Callable[..., Any])

FIELDS = ("temperature", "top_k", "top_p", "min_p", "seed")


def sampling_options(function: F) -> F:
    """--temperature, --top-k, --top-p, --min-p, --seed; ranges are checked by `SamplingParams`."""
    decorators = [
        click.option("--temperature", type=float, default=0.0, help="Sampling temperature; 0 decodes greedily."),
        click.option(
            "--top-k", type=int, default=0, help="Keep only this many of the most likely tokens; 0 keeps all."
        ),
        click.option(
            "--top-p", type=float, default=1.0, help="Keep the fewest tokens whose probabilities add up to this."
        ),
        click.option(
            "--min-p", type=float, default=0.0, help="Drop tokens less likely than this share of the most likely one."
        ),
        click.option("--seed", type=int, default=0, help="Fixes what is drawn, whatever else is running."),
    ]
    for decorator in reversed(decorators):
        function = decorator(function)
    return function


def scheduler_option(function: F) -> F:
    """--scheduler, from the registry."""
    return click.option(
        "--scheduler",
        type=click.Choice(("auto", *scheduler_names())),
        default="auto",
        help="Decides how much of a draft is verified. auto: by what is measured of this bundle on this machine.",
    )(function)


def take_sampling(options: dict[str, Any]) -> SamplingParams:
    """The parameters among parsed options, which are removed. Raises `RequestError` for a value out of range."""
    return SamplingParams(**{name: options.pop(name) for name in FIELDS})
