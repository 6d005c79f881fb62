"""How `--help` looks: options in groups, and placeholders that a person would write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

GROUPS: dict[str, tuple[str, ...]] = {
    "Model": ("recipe", "target", "drafters", "draft_vocabulary", "draft_length"),
    "Prompt": ("prompt", "prompt_file", "batch_file", "raw", "prompt_set", "prompt_limit", "accuracy"),
    "Length": ("max_new_tokens",),
    "Sampling": ("temperature", "top_k", "top_p", "min_p", "seed"),
    "Limits": ("context_length", "prefill_chunk", "slots"),
    "Precision": ("precision", "keep"),
    "Calibration": ("prompts", "calibrate", "measure"),
    "Speculation": ("drafter", "compared", "speculation", "no_speculation", "scheduler", "pipeline"),
    "Engines": ("backend", "threads"),
    "GPU engines": ("engines_",),
    "Output": ("output", "overwrite", "trace", "as_json"),
}
"""Title to names of parameters, or how they begin; the rest stands under "Other options"."""
OTHERS = "Other options"
FEW = 9
"""Commands with no more options than these have one list."""
PLACEHOLDERS = {"integer": "N", "integer range": "N", "float": "X", "float range": "X", "text": "TEXT"}


class GroupedCommand(click.Command):
    """A command whose help has its options in groups, where there are many."""

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """See above."""
        options = [option for option in self.get_params(context) if isinstance(option, click.Option)]
        shown = [(option, record) for option in options if (record := option.get_help_record(context)) is not None]
        if len(shown) <= FEW:
            super().format_options(context, formatter)
            return
        for title in (*GROUPS, OTHERS):
            rows = [record for option, record in shown if _group(option) == title]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        """Placeholders are set before anything can ask for help."""
        for parameter in self.params:
            if isinstance(parameter, click.Option) and parameter.metavar is None:
                parameter.metavar = PLACEHOLDERS.get(parameter.type.name)
        return super().parse_args(context, arguments)


def _group(option: click.Option) -> str:
    name = option.name or ""
    for title, members in GROUPS.items():
        if name in members or (members == ("engines_",) and name.startswith(members)):
            return title
    return OTHERS


def command(name: str, summary: str) -> Callable[[Callable[..., Any]], click.Command]:
    """`click.command` in this style; `summary` is what the list of commands shows, at most 45 characters."""
    return click.command(name, cls=GroupedCommand, short_help=summary)
