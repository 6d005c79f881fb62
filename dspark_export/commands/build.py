"""`dspark-export build`: checkpoints in, deployable bundle out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dspark_calibration.report.page import require
from dspark_engines import Bundle, RuntimeOptions, open_bundle
from dspark_engines.backends import CompileOptions, EngineOptions
from dspark_engines.bundle import Limits, Manifest
from dspark_engines.errors import BackendError
from dspark_engines.measured import save_cost_table
from dspark_engines.profiling import measure_quickly, profile_bundle, profile_plan
from dspark_engines.progress import Reporter
from dspark_engines.runtime.serving.plan import plan_runtime
from dspark_export.calibrating.plan import TracePlan
from dspark_export.calibrating.run import Calibrated, CalibrationPlan, calibrate
from dspark_export.commands.calibrate import show
from dspark_export.commands.console import print_json, print_text, reporting
from dspark_export.commands.drafters import first_and_further
from dspark_export.commands.engine_options import compile_options, take_compile_options
from dspark_export.commands.help import command as styled
from dspark_export.commands.options import backend_option, checkpoint_options
from dspark_export.commands.paths import PATH
from dspark_export.commands.recipe import recipe_option
from dspark_export.commands.vocabulary import VocabularyReport, vocabulary_report, with_vocabulary
from dspark_export.prompts import Prompt, built_in_prompts, encode_prompts, read_prompt_set


def run_build(backend: str | None, as_json: bool, options: dict[str, Any]) -> None:
    """Build (or only export, with `backend` None) from parsed options and say what was written."""
    from dspark_export.bundling import BuildPlan, build_bundle

    limits = Limits(
        context_length=options["context_length"],
        prefill_chunk=min(options["prefill_chunk"], options["context_length"]),
        slots=options["slots"],
    )
    output: Path = options["output"]
    plan = BuildPlan(
        target=options["target"],
        **first_and_further(options["drafters"]),
        output=output,
        backend=backend,
        limits=limits,
        overwrite=options["overwrite"],
        speculation=options["speculation"],
        precision=options["precision"],
        draft_length=options["draft_length"],
        keep=tuple(options["keep"]),
        options=options.get("compile", CompileOptions()),
        recipe=options["recipe"],
    )
    for name in ("draft_vocabulary", "draft_length"):
        if plan.drafter is None and options[name]:
            flag = f"--{name.replace('_', '-')}"
            raise click.UsageError(f"{flag} is of a drafter, and there is none: pass --drafter")
    named = None if backend is None or plan.drafter is None else _prompts(options)
    prompts = named if options.get("calibrate") else None
    counted = named if options["draft_vocabulary"] else None
    tokens: int = options.get("max_new_tokens", 0)  # `export` has none
    with reporting() as reporter:
        plan, before = with_vocabulary(plan, options["draft_vocabulary"], counted, tokens, reporter)
        manifest = build_bundle(plan, reporter)
        vocabulary = vocabulary_report(plan, manifest, before, counted, tokens, reporter)
        done, notes = None, []
        if backend is not None and prompts is not None:
            done = _calibrate(output, backend, prompts, tokens, reporter)
        elif plan.drafter is None:
            notes = ["no drafter: it decodes plainly"]
        elif backend is not None and options["measure"]:
            notes = _measure(output, backend, reporter)
    _report(output, manifest, vocabulary, done, notes, as_json)


def _prompts(options: dict[str, Any]) -> list[Prompt] | None:
    """The prompt set to calibrate or to count tokens on, read before any heavy work; None where nobody asks for one."""
    path: Path | None = options["prompts"]
    if path is None or not (options["calibrate"] or options["draft_vocabulary"]):
        return None
    if options["calibrate"]:
        require()
    return read_prompt_set(path)


def _calibrate(output: Path, backend: str, prompts: list[Prompt], tokens: int, reporter: Reporter) -> Calibrated:
    """Costs first, so that the report that calibration writes has them."""
    bundle, engines = open_bundle(output), EngineOptions()
    profile_bundle(bundle, backend, engines, profile_plan(bundle, backend), reporter)
    plan = CalibrationPlan(TracePlan(tokens, backend=backend, engines=engines))
    return calibrate(bundle, prompts, plan, reporter)


def _measure(output: Path, backend: str, reporter: Reporter) -> list[str]:
    """The few costs by which runtimes choose; says what they will choose, or why it could not be measured here."""
    bundle = open_bundle(output)
    try:
        save_cost_table(measure_quickly(bundle, backend, _short_prompts(bundle), reporter), bundle)
    except BackendError as error:  # engines for another machine
        return [f"not measured here whether drafting pays: {error}", "run dspark-export profile where it will run"]
    return [plan_runtime(bundle, RuntimeOptions(backend)).reason]


def _short_prompts(bundle: Bundle) -> list[list[int]]:
    """Those built in that its context has room for."""
    room = bundle.manifest.limits.context_length - bundle.manifest.drafter.block_size
    return [ids for ids in encode_prompts(bundle, built_in_prompts(), cut=True) if len(ids) < room]


def _report(
    output: Path,
    manifest: Manifest,
    vocabulary: VocabularyReport | None,
    done: Calibrated | None,
    notes: list[str],
    as_json: bool,
) -> None:
    size = sum(record.bytes for record in manifest.files)
    if as_json:
        verdict: dict[str, Any] = {} if done is None else {"verdict": done.report.verdict}
        verdict |= {"speculation": notes} if notes else {}
        verdict |= {} if vocabulary is None else {"draft_vocabulary": vocabulary.report()}
        print_json({"bundle": str(output), "files": len(manifest.files), "bytes": size} | verdict)
        return
    print_text(f"{output}: {len(manifest.files)} files, {size / 1e6:.0f} MB")
    if vocabulary is not None:
        print_text(vocabulary.text())
    for note in notes:
        print_text(note)
    if done is not None:
        show(done, as_json)


@styled("build", "Checkpoints in, deployable bundle out.")
@recipe_option
@checkpoint_options
@click.option("--prompts", type=PATH, help="Profile, and calibrate on this prompt set.")
@click.option(
    "--max-new-tokens",
    type=click.IntRange(min=1),
    default=128,
    help="Tokens generated for each prompt when calibrating.",
)
@click.option(
    "--calibrate/--no-calibrate",
    default=True,
    help="--no-calibrate skips profiling and calibration even if a prompt set is given.",
)
@click.option(
    "--measure/--no-measure",
    default=True,
    help="Measure for some seconds whether drafting pays here, so that runtimes know (profile is thorough).",
)
@backend_option
@compile_options
def command(backend: str, as_json: bool, **options: Any) -> None:
    """Export target and drafter, compile them, and write a bundle.

    With a prompt set (--prompts, or the recipe's) the bundle is profiled and calibrated as well, and gets a report.
    """
    options["compile"] = take_compile_options(options)
    run_build(backend, as_json, options)
