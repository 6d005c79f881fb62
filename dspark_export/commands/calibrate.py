"""`dspark-export calibrate`: confidences that mean what they say, and the deployment's report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.table import Table

from dspark_calibration.report.page import require
from dspark_engines import Bundle
from dspark_engines.backends import EngineOptions
from dspark_engines.errors import DsparkError
from dspark_export.calibrating.check import Drift, check_drift
from dspark_export.calibrating.fitting import FitPlan
from dspark_export.calibrating.plan import Shard, TracePlan
from dspark_export.calibrating.run import Calibrated, CalibrationPlan, calibrate, merge, prepare
from dspark_export.calibrating.tracing import trace_prompts
from dspark_export.commands.console import print_json, print_text, reporting, table_console
from dspark_export.commands.drafters import drafter_option, open_seen
from dspark_export.commands.help import command as styled
from dspark_export.commands.options import backend_option, bundle_argument, json_option, threads_option
from dspark_export.commands.paths import PATH
from dspark_export.prompts import Prompt, read_prompt_set

DRIFTED = 1


def _shard(context: click.Context, parameter: click.Parameter, text: str | None) -> Shard | None:
    """i/n."""
    if text is None:
        return None
    number, _, count = text.partition("/")
    if not (number.isascii() and number.isdigit() and count.isascii() and count.isdigit()):
        raise click.BadParameter(f"'{text}' is not i/n, such as 1/4", context, parameter)
    return Shard(int(number), int(count))


@styled("calibrate", "Calibrate confidences on a prompt set.")
@bundle_argument
@click.argument("folders", nargs=-1, type=PATH, metavar="[DIR]...")
@click.option("--prompts", type=PATH, help="JSON Lines of prompts, with `id` and `source`.")
@click.option("--limit", type=click.IntRange(min=1), help="Use only the first prompts.")
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=128, help="Tokens generated for each prompt.")
@click.option("--temperature", type=click.FloatRange(min=0), default=0.0, help="Sampling temperature; 0 is greedy.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed that each prompt's own seed is derived from.")
@click.option("--bins", type=click.IntRange(min=2), default=20, help="Bins of the expected calibration error.")
@click.option(
    "--offsets",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    help="Give positions an offset as well as a temperature; auto: when that mends much.",
)
@click.option("--resamples", type=click.IntRange(min=20), default=200, help="Bootstrap resamples for the intervals.")
@click.option("--traces", type=PATH, help="Folder of the traces (default: inside BUNDLE).")
@click.option("--shard", callback=_shard, metavar="I/N", help="Only trace every N-th prompt, from the I-th.")
@click.option("--merge", "merging", is_flag=True, help="Do not trace: merge the shards in the DIRs, then fit.")
@click.option(
    "--check", "checking", is_flag=True, help="Measure the calibration on new prompts; exit code 1 if it has drifted."
)
@click.option("--overwrite", is_flag=True, help="Delete existing traces first.")
@drafter_option
@threads_option
@backend_option
@json_option
def command(
    bundle: Path,
    folders: tuple[Path, ...],
    prompts: Path | None,
    limit: int | None,
    shard: Shard | None,
    merging: bool,
    checking: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Calibrate the confidences of BUNDLE on a prompt set and write its report.

    Prompts are generated one by one with the whole block verified; an interrupted run goes on where it stopped.
    Half of them are fitted, the other half says how good the fit is. With --check the exit code is 1 when the
    calibration error on new prompts is above the recorded interval; an error below it is said and is no failure.
    """
    _check_modes(prompts, shard, merging, checking, folders)
    opened = open_seen(bundle, options["drafter"])
    plan = _plan(options)
    chosen = [] if prompts is None else read_prompt_set(prompts, limit)
    if checking:
        with reporting() as reporter:
            drift = check_drift(opened, chosen, plan.trace, plan.traces, reporter)
        _show_drift(drift, as_json)
        return DRIFTED if drift.drifted else 0
    if shard is not None:
        _trace_shard(opened, chosen, plan, shard, as_json)
        return 0
    require()
    with reporting() as reporter:
        done = merge(opened, folders, plan, reporter) if merging else calibrate(opened, chosen, plan, reporter)
    show(done, as_json)
    return 0


def _plan(options: dict[str, Any]) -> CalibrationPlan:
    engines = EngineOptions(options["threads"])
    return CalibrationPlan(
        TracePlan(options["max_new_tokens"], options["temperature"], options["seed"], options["backend"], engines),
        FitPlan(options["bins"], options["resamples"], options["offsets"]),
        options["traces"],
        options["overwrite"],
    )


def _check_modes(
    prompts: Path | None, shard: Shard | None, merging: bool, checking: bool, folders: tuple[Path, ...]
) -> None:
    """Raises `DsparkError` for options that do not go together."""
    if merging + checking + (shard is not None) > 1:
        raise DsparkError("more than one of --shard, --merge and --check is given", hint="pass one of them")
    if merging and prompts is not None:
        raise DsparkError("--merge takes no --prompts", hint="the traces name their prompts: leave it out")
    if merging and not folders:
        raise DsparkError("--merge without a folder", hint="calibrate BUNDLE --merge DIR DIR")
    if folders and not merging:
        raise DsparkError(f"unexpected argument {folders[0]}", hint="folders go with --merge")
    if not merging and prompts is None:
        raise DsparkError("no prompt set", hint="pass --prompts FILE, such as calibration/prompts/calibration.jsonl")


def _trace_shard(bundle: Bundle, prompts: list[Prompt], plan: CalibrationPlan, shard: Shard, as_json: bool) -> None:
    with reporting() as reporter:
        store = trace_prompts(bundle, prompts, plan.trace, prepare(bundle, plan), reporter, shard)
    if as_json:
        print_json({"traces": str(store.path), "shard": f"{shard.number}/{shard.count}"})
    else:
        print_text(f"shard {shard.number}/{shard.count} traced into {store.path}")
        print_text(f"when all are done: dspark-export calibrate {bundle.path} --merge DIR...")


def show(done: Calibrated, as_json: bool) -> None:
    """The before/after table, the verdict, and where everything is."""
    if as_json:
        print_json({"files": [str(path) for path in done.files], **done.report.model_dump()})
        return
    console = table_console()
    for table in (_scores(done), _positions(done)):
        console.print(table)
    print_text(done.report.verdict)
    for path in done.files:
        print_text(f"written: {path}")


def _scores(done: Calibrated) -> Table:
    report = done.report
    table = Table("held-out prompts", "ECE", "ECE, equal mass", "AUROC", "Brier", "log-loss", title="prefix survival")
    rows = {
        "raw": report.before,
        "each position on its own": report.per_position_scaling,
        "STS": report.temperature_scaling,
    }
    if report.offsets:
        rows["with offsets (applied)"] = report.after
    for name, s in rows.items():
        auroc = "–" if s.auroc is None else f"{s.auroc:.3f}"
        table.add_row(name, f"{s.ece:.2%}", f"{s.ece_equal_mass:.2%}", auroc, f"{s.brier:.4f}", f"{s.log_loss:.4f}")
    return table


def _positions(done: Calibrated) -> Table:
    table = Table(
        "position", "STS temperature (95%)", "applied: T, offset", "ECE before", "after", "accepted of reached"
    )
    for p in done.report.positions:
        t = p.sts_temperature
        accepted = "–" if p.acceptance is None else f"{p.acceptance:.1%} of {p.reached}"
        fitted = (f"{t.value:.2f} ({t.low:.2f}–{t.high:.2f})", f"{p.temperature:.2f}, {p.offset:+.2f}")
        table.add_row(str(p.position), *fitted, f"{p.before.ece:.2%}", f"{p.after.ece:.2%}", accepted)
    return table


def _show_drift(drift: Drift, as_json: bool) -> None:
    if as_json:
        print_json({**drift._asdict(), "drifted": drift.drifted, "below": drift.below})
        return
    verdict = "DRIFTED: calibrate again" if drift.drifted else "no drift"
    print_text(
        f"{drift.prompts} prompts, {drift.rounds} rounds: calibration error {drift.ece:.2%} "
        f"(uncalibrated {drift.ece_uncalibrated:.2%}), recorded interval {drift.low:.2%} to {drift.high:.2%}: {verdict}"
    )
    if drift.below:
        print_text("the error is below the interval: no failure, but these prompts are not like the calibration's")
