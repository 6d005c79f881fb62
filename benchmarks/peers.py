"""Ours beside llama.cpp on the same target and drafter, prompt by prompt in turn.

    python benchmarks/peers.py BUNDLE --llama-server PROGRAM --target FILE.gguf [--drafter FILE.gguf]
                               [--draft 5:0 --draft 3:0 …] [--per-source 8] [--max-new-tokens 64]

Ours plain and by default, llama.cpp's server plain and, with a drafter, `draft-dspark` in every setting of `--draft`
(tokens a draft at most, and the probability below which a draft ends). All of them are open at once on as many threads
and take turns in changing order, one greedy request at a time. docs/measuring.md says how to set llama.cpp up.

Prints the median tokens/s after the first token by source, accepted lengths, and ratios of ours to theirs, which are
medians over prompts; the best setting of `draft-dspark` is the one with the highest median over all prompts.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from both_ways import open_runtimes
from dspark_engines import Bundle, GenerationRequest, Runtime, open_bundle
from dspark_engines.bundle import record_file
from dspark_engines.errors import DsparkError
from dspark_export.commands.console import print_json, table_console
from dspark_export.prompts import Prompt, encode_prompts
from exit_code import exit_code
from llama_server import Answer, DraftSetting, LlamaServer
from speculation import PROMPTS, take

Contestant = Callable[[Sequence[int], int], Answer]
Answers = Mapping[str, Sequence[Answer]]
"""By contestant, in the order of the prompts."""
PLAIN, DEFAULT, THEIRS = "ours, plain", "ours, default", "llama.cpp, plain"
DRAFTS = ("5:0", "4:0", "3:0", "2:0", "5:0.5")
WARM_UP = 8


def read_setting(text: str) -> tuple[int, float]:
    """ "5:0.5" to 5 tokens and a probability of 0.5."""
    most, _, least = text.partition(":")
    try:
        return int(most), float(least or 0)
    except ValueError:
        raise click.BadParameter(f"'{text}' is not TOKENS:PROBABILITY", param_hint="--draft") from None


@click.command(context_settings={"show_default": True})
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--llama-server", "program", type=click.Path(path_type=Path), required=True, help="llama.cpp's server.")
@click.option("--target", type=click.Path(path_type=Path), required=True, help="GGUF file BUNDLE was built from.")
@click.option("--drafter", type=click.Path(path_type=Path), help="GGUF file of BUNDLE's drafter.")
@click.option("--draft", "drafts", multiple=True, default=DRAFTS, help="TOKENS:PROBABILITY; may be repeated.")
@click.option("--prompts", type=click.Path(path_type=Path), default=PROMPTS, help="JSON Lines with prompt and source.")
@click.option("--per-source", default=8, help="Prompts taken of each source.")
@click.option("--max-new-tokens", default=64, help="Tokens a prompt.")
@click.option("--threads", default=0, help="Threads of each contestant; 0: all cores.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def command(
    bundle: Path,
    program: Path,
    target: Path,
    drafter: Path | None,
    drafts: tuple[str, ...],
    prompts: Path,
    per_source: int,
    max_new_tokens: int,
    threads: int,
    as_json: bool,
) -> None:
    """Compare BUNDLE with llama.cpp."""
    opened, chosen = open_bundle(bundle), take(prompts, per_source)
    require_same(opened, target)
    cores = threads or len(os.sched_getaffinity(0))
    settings = [DraftSetting(drafter, *read_setting(draft)) for draft in drafts] if drafter else []
    with ExitStack() as stack:
        contestants = ours(opened, threads, stack)
        for setting in (None, *settings):
            server = LlamaServer(program, target, opened.manifest.limits.context_length, cores, setting)
            contestants[name_of(setting)] = stack.enter_context(server).answer
        answers = take_turns(contestants, encode_prompts(opened, chosen), max_new_tokens)
    found = {"tokens_per_second": speeds(answers, chosen), "ratios": ratios(answers), "same": same(answers)}
    if as_json:
        print_json(found)
        return
    show(found, answers)


def require_same(bundle: Bundle, target: Path) -> None:
    """Raises `DsparkError` when `target` is not the file that the bundle was built from."""
    if not target.is_file() or [record_file(target, target.parent)] != bundle.manifest.target.files:
        raise DsparkError(
            f"{target}: not the GGUF file that this bundle's target was read from",
            hint="pass the file that was given to --target at the build",
        )


def name_of(setting: DraftSetting | None) -> str:
    """In the tables."""
    if setting is None:
        return THEIRS
    return f"llama.cpp, {setting.most} drafts" + (f", p ≥ {setting.least_probability:g}" if setting[2] else "")


def ours(bundle: Bundle, threads: int, stack: ExitStack) -> dict[str, Contestant]:
    """Plain, and what a runtime chooses by itself."""
    default, plain = open_runtimes(bundle, threads, ("off",), stack)
    return {PLAIN: _answers_of(plain), DEFAULT: _answers_of(default)}


def _answers_of(runtime: Runtime) -> Contestant:
    def answer(prompt: Sequence[int], tokens: int) -> Answer:
        (result,) = runtime.generate([GenerationRequest(prompt, tokens)])
        return Answer(result.token_ids, result.seconds.decode, len(result.rounds))

    return answer


def take_turns(contestants: Mapping[str, Contestant], prompts: Sequence[Sequence[int]], tokens: int) -> Answers:
    """Every prompt to everyone, who begins changing from prompt to prompt."""
    for contestant in contestants.values():
        contestant(prompts[0], WARM_UP)
    answers: dict[str, list[Answer]] = {name: [] for name in contestants}
    names = list(contestants)
    for number, prompt in enumerate(track(prompts, "taking turns", console=Console(stderr=True))):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            answers[name].append(contestants[name](prompt, tokens))
    return answers


def speeds(answers: Answers, prompts: Sequence[Prompt]) -> dict[str, dict[str, float]]:
    """Median tokens/s by contestant and source; "all" for all prompts."""
    sources = [*dict.fromkeys(prompt.source for prompt in prompts), "all"]
    return {
        name: {
            source: statistics.median(
                answer.tokens_per_second
                for answer, prompt in zip(given, prompts, strict=True)
                if source in (prompt.source, "all")
            )
            for source in sources
        }
        for name, given in answers.items()
    }


def ratios(answers: Answers) -> dict[str, list[float]]:
    """Ours to theirs by prompt: quartiles."""
    drafting = [name for name in answers if name not in (PLAIN, DEFAULT, THEIRS)]
    pairs = {"plain ÷ their plain": (PLAIN, THEIRS), "default ÷ their plain": (DEFAULT, THEIRS)}
    if drafting:
        middle = {name: statistics.median(each.tokens_per_second for each in answers[name]) for name in drafting}
        best = max(drafting, key=lambda name: middle[name])
        pairs[f"default ÷ their best draft-dspark ({best})"] = (DEFAULT, best)
    return {
        what: statistics.quantiles(
            [o.tokens_per_second / t.tokens_per_second for o, t in zip(answers[one], answers[other], strict=True)], n=4
        )
        for what, (one, other) in pairs.items()
    }


def same(answers: Answers) -> dict[str, int]:
    """Answers that equal the plain ones of the same engine: speculation should change none."""
    return {
        name: sum(
            one.token_ids == plain.token_ids
            for one, plain in zip(given, answers[PLAIN if name == DEFAULT else THEIRS], strict=True)
        )
        for name, given in answers.items()
        if name not in (PLAIN, THEIRS)
    }


def show(found: Mapping[str, Any], answers: Answers) -> None:
    """Print the tables."""
    by_name = found["tokens_per_second"]
    table = Table("tokens/s", *by_name[PLAIN], "accepted length", "as plain")
    for name, row in by_name.items():
        length = statistics.mean(answer.accepted_length for answer in answers[name])
        equal = str(found["same"].get(name, ""))
        table.add_row(name, *(f"{value:.1f}" for value in row.values()), f"{length:.2f}", equal)
    table_console().print(table)
    for what, (low, middle, high) in found["ratios"].items():
        click.echo(f"{what}: {middle:.2f} ({low:.2f}–{high:.2f})")


def run(arguments: Sequence[str] | None = None) -> int:
    """The exit code; a user's errors become a line and a hint."""
    return exit_code(command, arguments)


if __name__ == "__main__":
    sys.exit(run())
