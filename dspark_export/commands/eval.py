"""`dspark-export eval`: is a drafter better than what runs now, on these prompts?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dspark_export.commands.console import print_json, reporting
from dspark_export.commands.eval_output import show
from dspark_export.commands.help import command as styled
from dspark_export.commands.options import backend_option, json_option, overwrite_option, threads_option
from dspark_export.commands.paths import PATH
from dspark_export.commands.sampling import sampling_options, scheduler_option, take_sampling
from dspark_export.evaluating.evaluation import EvalSpec, prepare
from dspark_export.evaluating.plan import EvalPlan

DIFFERENT = 1


@styled("eval", "Compare drafters on your own prompts.")
@click.argument("bundles", nargs=-1, required=True, type=PATH, metavar="BUNDLE...")
@click.option(
    "--prompts",
    "prompt_set",
    type=PATH,
    required=True,
    help="JSON Lines of prompts: your own (`prompt`, and optionally `id`, `source`, `answer`), or GSM8K, MATH, "
    "HumanEval, MBPP, MT-Bench or Alpaca as they are published.",
)
@click.option(
    "--limit", "prompt_limit", type=click.IntRange(min=1), help="Use so many prompts, evenly from all sources."
)
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=64, help="Tokens generated for each prompt.")
@click.option(
    "--drafter",
    "compared",
    multiple=True,
    metavar="NAME",
    help="A drafter of the bundles, or ngram (prompt lookup). May be given several times (default: all).",
)
@click.option("--accuracy", is_flag=True, help="Count right answers too, by exact match. No code is run.")
@click.option("--output", type=PATH, help="Folder for records (a run that stops goes on there), eval.json, eval.html.")
@overwrite_option
@sampling_options
@scheduler_option
@threads_option
@backend_option
@json_option
def command(
    bundles: tuple[Path, ...],
    prompt_set: Path,
    prompt_limit: int | None,
    compared: tuple[str, ...],
    accuracy: bool,
    output: Path | None,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Compare every drafter of every BUNDLE with plain decoding, and with each other, on the same prompts.

    All ways take turns on every prompt, one request at a time: plain decoding (twice: against itself it should come out
    at 1), each drafter, and prompt lookup. Decoding is greedy; a --temperature adds a second pass that samples.
    Intervals are 95%, by bootstrap over prompts. Several bundles must have the same target.

    With --output, prompts that are finished are kept: the same command goes on behind them, and a larger --limit adds
    to them.

    \b
    Exit codes:
      0  greedy output is that of plain decoding in all ways, but for ties
      1  it is not: a bug, unless the engines are damaged (see dspark-export check)
      2  an error
    """
    sampling = take_sampling(options)
    spec = EvalSpec(
        bundles=bundles,
        prompts=prompt_set,
        plan=EvalPlan(sampling=sampling, **options),
        drafters=compared,
        limit=prompt_limit,
        accuracy=accuracy,
        output=output,
        overwrite=overwrite,
    )
    prepared = prepare(spec)
    with reporting(remaining=True) as reporter:
        evaluation, files = prepared.run(reporter)
    if as_json:
        print_json({"files": [str(file) for file in files], **evaluation.model_dump()})
    else:
        show(evaluation, files)
    return 0 if evaluation.passed else DIFFERENT
