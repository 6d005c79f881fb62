"""Throughput and the speed that one request sees, by load: plain, a fixed length, and every scheduler, in one run.

    python benchmarks/serving.py BUNDLE [--load 1 --load 8 ...] [--turns 5] [--max-new-tokens 48] [--figure FILE.png]

A closed loop: as one request finishes the next one starts, and only the time in which all places are filled
counts. In every turn each mode serves the same prompts, in shuffled order, on the same opened engines; ratios
are taken turn by turn, so that a drifting machine favours none. Prints a table (load × mode) and, for every load,
whether each scheduled mode is at least as good as the better of plain and fixed. BUNDLE needs a cost table:
`dspark-export profile BUNDLE`.
"""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import track

from closed_loop import Steady, drive
from dspark_engines import Bundle, DsparkError, GenerationRequest, Runtime, RuntimeOptions, open_bundle
from dspark_engines.backends import EngineOptions, get_backend
from dspark_engines.measured import Fingerprint, load_cost_table, load_placement, resolve_engines, take_fingerprint
from dspark_engines.runtime.serving.pipeline import Cohorts, Pipeline, plan_cohorts
from dspark_engines.runtime.serving.pool import EnginePool, open_pool
from dspark_engines.text import TextCodec
from dspark_export.commands.console import print_json, table_console
from dspark_export.commands.options import backend_option
from dspark_export.prompts import read_prompts
from exit_code import exit_code
from serving_report import MODES, cells, check_figure, lines, table, verdicts, write_figure

PROMPTS = Path(__file__).resolve().parent.parent / "calibration" / "prompts" / "evaluation.jsonl"
LOADS = (1, 2, 4, 8, 16)
WARM_UP_TOKENS = 16
"""The first steps of a size are slow, and whoever decides what pays has seen nothing yet."""


@dataclass(frozen=True)
class Plan:
    """What is measured: loads, how often, how long a supply, how many tokens of each request, on what."""

    loads: list[int]
    turns: int
    requests_per_place: int
    max_new_tokens: int
    backend: str
    threads: int
    pipeline: Pipeline
    seed: int

    @property
    def warm_up_tokens(self) -> int:
        """Tokens of each request before anything counts."""
        return min(WARM_UP_TOKENS, self.max_new_tokens)

    def cohorts(self, bundle: Bundle) -> Cohorts:
        """How a runtime for the largest load is arranged: with fewer requests at once it needs no more engines."""
        placement = None if self.threads else load_placement(bundle, self.backend)
        options = EngineOptions(self.threads)
        own = get_backend(self.backend).own_engines
        return plan_cohorts(self.pipeline, max(self.loads), options, own_engines=own, placement=placement)

    def options(self, load: int, mode: str) -> RuntimeOptions:
        """A runtime for `load` requests at once."""
        engines, queue = EngineOptions(self.threads), load * self.requests_per_place
        scheduler = "fixed" if mode == "plain" else mode
        return RuntimeOptions(self.backend, engines, load, queue, scheduler=scheduler, pipeline=self.pipeline)


@click.command(context_settings={"show_default": True})
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--load", "loads", type=click.IntRange(1), multiple=True, default=LOADS, help="Requests at once.")
@click.option("--turns", type=click.IntRange(1), default=5, help="Runs of every mode at every load.")
@click.option("--requests-per-place", type=click.IntRange(2), default=3, help="Supply of a run, for each place.")
@click.option("--max-new-tokens", type=click.IntRange(2), default=48, help="Tokens a request.")
@click.option("--prompts", type=click.Path(path_type=Path), default=PROMPTS, help="JSON Lines with prompts.")
@backend_option
@click.option("--threads", type=click.IntRange(0), default=0, help="Engine threads; 0: all cores.")
@click.option("--pipeline", type=click.Choice(["auto", "on", "off"]), default="auto", help="Overlap draft and verify.")
@click.option("--seed", default=0, help="Order of prompts and modes.")
@click.option("--figure", type=click.Path(path_type=Path), help="Draw throughput against a request's speed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def main(
    bundle: Path, prompts: Path, figure: Path | None, as_json: bool, loads: tuple[int, ...], **settings: Any
) -> None:
    """Measure BUNDLE under load on this machine."""
    opened = speculating(open_bundle(bundle))
    plan = Plan(fitting(loads, opened), **settings)
    here = require_cost_table(opened, plan)
    if figure is not None:
        check_figure(figure)
    requests = shuffled_requests(opened, prompts, plan)
    cohorts = plan.cohorts(opened)
    with open_pool(opened, plan.backend, cohorts.exclusive, cohorts.shared) as engines:
        runs = measure(opened, engines, requests, plan)
    entries, judged = cells(runs), verdicts(runs)
    title = f"{opened.path.name} on {here.cpu}, engine threads: {here.threads}, medians of {plan.turns} turns"
    if as_json:
        found = {"cells": [entry._asdict() for entry in entries], "verdicts": [entry._asdict() for entry in judged]}
        print_json({"title": title, "machine": here.model_dump(), "plan": asdict(plan)} | found)
    else:
        table_console().print(table(entries, title))
        click.echo("\n".join(lines(judged)))
    if figure is not None:
        write_figure(entries, title, figure)


def speculating(bundle: Bundle) -> Bundle:
    """Speculation as it is when nobody switched it off: that is what is measured."""
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"speculation": True}))


def fitting(loads: Sequence[int], bundle: Bundle) -> list[int]:
    """The loads that the bundle was built for; others are named on standard error."""
    slots = bundle.manifest.limits.slots
    chosen = sorted({load for load in loads if load <= slots})
    beyond = sorted({load for load in loads if load > slots})
    if beyond:
        said = ", ".join(map(str, beyond))
        click.echo(f"left out: {said} at once; the bundle was built for {slots} (build it with more --slots)", err=True)
    if not chosen:
        raise DsparkError(f"no load that the bundle can take: it was built for {slots}", hint=f"--load {slots} or less")
    return chosen


def require_cost_table(bundle: Bundle, plan: Plan) -> Fingerprint:
    """This machine's fingerprint. Raises `DsparkError` unless the bundle's cost table was measured with it."""
    here = take_fingerprint(bundle, plan.backend, resolve_engines(bundle, plan.backend, EngineOptions(plan.threads)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            load_cost_table(bundle, here)
        except RuntimeWarning as missing:
            command = f"dspark-export profile {bundle.path}" + (f" --threads {plan.threads}" if plan.threads else "")
            raise DsparkError(f"schedulers need a cost table of this machine: {missing}", hint=command) from None
    return here


def shuffled_requests(bundle: Bundle, path: Path, plan: Plan) -> list[GenerationRequest]:
    """One request for every prompt of the file that fits, in random order: sources differ in length and ease."""
    codec, limit = TextCodec(bundle), bundle.manifest.limits.context_length - plan.max_new_tokens
    prompts = [ids for ids in map(codec.prompt_ids, read_prompts(path)) if len(ids) <= limit]
    if not prompts:
        raise DsparkError(f"{path}: no prompt that leaves room for the output", hint="fewer --max-new-tokens")
    random.Random(plan.seed).shuffle(prompts)
    return [GenerationRequest(ids, plan.max_new_tokens) for ids in prompts]


def measure(
    bundle: Bundle, engines: EnginePool, requests: Sequence[GenerationRequest], plan: Plan
) -> dict[tuple[int, str], list[Steady]]:
    """All runs, by load and mode, in the order of the turns."""
    runs: dict[tuple[int, str], list[Steady]] = {(load, mode): [] for load in plan.loads for mode in MODES}
    console = Console(stderr=True)
    with ExitStack() as stack:  # runtimes live on between their turns, with what they learnt
        runtimes = {key: stack.enter_context(Runtime(bundle, plan.options(*key), engines=engines)) for key in runs}
        for (load, mode), runtime in track(runtimes.items(), "warming up", console=console):
            chosen = supply(requests, 0, load, speculate=mode != "plain")
            runtime.generate([replace(request, max_new_tokens=plan.warm_up_tokens) for request in chosen])
        for turn, load, mode in track(order(plan), "serving", console=console):
            chosen = supply(requests, turn, load * plan.requests_per_place, speculate=mode != "plain")
            runs[load, mode].append(drive(runtimes[load, mode], chosen, load))
    return runs


def order(plan: Plan) -> list[tuple[int, int, str]]:
    """(turn, load, mode): a turn takes the loads in random order, and at each of them the modes in random order."""
    rng = random.Random(plan.seed)
    turns = []
    for turn in range(plan.turns):
        for load in rng.sample(plan.loads, len(plan.loads)):
            turns += [(turn, load, mode) for mode in rng.sample(MODES, len(MODES))]
    return turns


def supply(requests: Sequence[GenerationRequest], turn: int, count: int, *, speculate: bool) -> list[GenerationRequest]:
    """The same `count` requests for every mode of a turn, others in the next one."""
    chosen = islice(cycle(requests), turn * count, (turn + 1) * count)
    return [replace(request, speculate=speculate) for request in chosen]


def run(arguments: Sequence[str] | None = None) -> int:
    """The exit code; a user's errors become a line and a hint."""
    return exit_code(main, arguments)


if __name__ == "__main__":
    sys.exit(run())
