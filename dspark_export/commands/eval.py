"""`dspark-export eval`: is a drafter better than what runs now, on these prompts?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dspark_calibration.report.page import require
from dspark_engines import open_bundle
from dspark_engines.bundle import check_folder, write_file
from dspark_export.commands.console import print_json, print_text, reporting
from dspark_export.commands.eval_output import show
from dspark_export.commands.help import command as styled
from dspark_export.commands.options import backend_option, json_option, overwrite_option, threads_option
from dspark_export.commands.paths import PATH
from dspark_export.commands.sampling import sampling_options, scheduler_option, take_sampling
from dspark_export.evaluating.conditions import Conditions, make_conditions
from dspark_export.evaluating.footing import check_footing
from dspark_export.evaluating.layouts import read_questions, require_answers, take_evenly
from dspark_export.evaluating.page import render
from dspark_export.evaluating.plan import EvalPlan
from dspark_export.evaluating.records import RecordStore
from dspark_export.evaluating.run import check_prompts, evaluate
from dspark_export.evaluating.schema import Evaluation
from dspark_export.evaluating.summary import summarise
from dspark_export.evaluating.ways import choose_ways

EVAL_JSON, EVAL_HTML = "eval.json", "eval.html"
DIFFERENT = 1


@styled("eval", "Compare drafters on your own prompts.")
@click.argument("bundles", nargs=-1, required=True, type=PATH, metavar="BUNDLE...")
@click.option(
    "--prompts",
    type=PATH,
    required=True,
    help="JSON Lines of prompts: your own (`prompt`, and optionally `id`, `source`, `answer`), or GSM8K, MATH, "
    "HumanEval, MBPP, MT-Bench or Alpaca as they are published.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Use so many prompts, evenly from all sources.")
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=64, help="Tokens generated for each prompt.")
@click.option(
    "--drafter",
    "drafters",
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
    prompts: Path,
    limit: int | None,
    drafters: tuple[str, ...],
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
    opened = [open_bundle(path) for path in bundles]
    plan = EvalPlan(sampling=take_sampling(options), **options)
    check_footing(opened, plan.backend)
    ways = choose_ways(opened, plan.backend, drafters)
    everything = read_questions(prompts)
    questions = take_evenly(everything, limit)
    if accuracy:
        require_answers(questions)
    check_prompts(ways[0], questions)
    store = _store(output, make_conditions(ways, everything, plan), overwrite)
    with reporting(remaining=True) as reporter:
        evaluate(ways, questions, plan, store, reporter)
        reporter.step("resampling")
        evaluation = summarise(store, ways, questions, plan, accuracy=accuracy)
        files = [] if output is None else _write(output, store, evaluation)
    if as_json:
        print_json({"files": [str(file) for file in files], **evaluation.model_dump()})
    else:
        show(evaluation)
        for file in files:
            print_text(f"written: {file}")
    return 0 if evaluation.passed else DIFFERENT


def _store(output: Path | None, conditions: Conditions, overwrite: bool) -> RecordStore:
    if output is None:
        return RecordStore(conditions)
    require()
    check_folder(output, output)
    return RecordStore.open(output, conditions, overwrite=overwrite)


def _write(folder: Path, store: RecordStore, evaluation: Evaluation) -> list[Path]:
    """eval.json and eval.html beside the records."""
    text = evaluation.model_dump_json(indent=1) + "\n"
    records = [] if store.path is None else [store.path]
    return [*records, write_file(folder / EVAL_JSON, text), write_file(folder / EVAL_HTML, render(evaluation))]
