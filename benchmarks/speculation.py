"""Speculation against plain decoding on the same engines, alternating in one run.

    python benchmarks/speculation.py BUNDLE [--prompts FILE] [--per-source 8] [--max-new-tokens 64]

Prints a table: decoding speed of both (median tokens/s over prompts), the median of the per-prompt ratios
with its quartiles, accepted length, prefix survival, what share of a round is neither draft nor verify, and
the ratio that accepted length and the engines' own times allow.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from dspark_calibration import accepted_length, accepted_per_position
from dspark_engines import GenerationRequest, GenerationResult, Generator, open_bundle
from dspark_engines.backends import EngineOptions, get_backend
from dspark_engines.text import TextCodec
from dspark_export.commands.console import table_console
from dspark_export.commands.options import backend_option
from dspark_export.prompts import Prompt, read_prompt_set
from exit_code import exit_code

PROMPTS = Path(__file__).resolve().parent.parent / "calibration" / "prompts" / "evaluation.jsonl"
Pair = tuple[GenerationResult, GenerationResult]


@click.command(context_settings={"show_default": True})
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--prompts", type=click.Path(path_type=Path), default=PROMPTS, help="JSON Lines with prompt and source.")
@click.option("--per-source", default=8, help="Prompts taken of each source.")
@click.option("--max-new-tokens", default=64, help="Tokens a prompt.")
@backend_option
@click.option("--threads", default=0, help="Engine threads; 0: all cores.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def main(
    bundle: Path,
    prompts: Path,
    per_source: int,
    max_new_tokens: int,
    backend: str,
    threads: int,
    as_json: bool,
) -> None:
    """Measure what speculation gains or loses with BUNDLE on this machine."""
    opened = open_bundle(bundle)
    codec, pairs = TextCodec(opened), defaultdict[str, list[Pair]](list)
    chosen = take(prompts, per_source)
    with get_backend(backend).open(opened, EngineOptions(threads)) as engines:
        generator = Generator(engines, opened.manifest)
        generator.run(GenerationRequest(codec.prompt_ids("Hello"), 16))  # warm up both engines
        for turn, prompt in enumerate(track(chosen, "alternating", console=Console(stderr=True))):
            ids, source = codec.prompt_ids(prompt.text), prompt.source
            pairs[source].append(run_pair(generator, ids, max_new_tokens, plain_first=turn % 2 == 0))
    everything = [pair for group in pairs.values() for pair in group]
    rows = {source: figures(group) for source, group in [*sorted(pairs.items()), ("all", everything)]}
    if as_json:
        click.echo(json.dumps(rows))
    else:
        show(rows)


def take(path: Path, per_source: int) -> list[Prompt]:
    """The first prompts of every source, in the file's order."""
    taken, counts = [], defaultdict[str, int](int)
    for prompt in read_prompt_set(path):
        counts[prompt.source] += 1
        if counts[prompt.source] <= per_source:
            taken.append(prompt)
    return taken


def run_pair(generator: Generator, ids: Sequence[int], max_new_tokens: int, *, plain_first: bool) -> Pair:
    """(plain, speculative) results of one prompt, in alternating order so that drift cancels."""
    results = {}
    for speculate in (False, True) if plain_first else (True, False):
        results[speculate] = generator.run(GenerationRequest(ids, max_new_tokens, speculate))
    return results[False], results[True]


def figures(pairs: Sequence[Pair]) -> dict[str, Any]:
    """What one row of the table says."""
    kept = [(p, s) for p, s in pairs if p.tokens_per_second and s.tokens_per_second]
    ratios = [s.tokens_per_second / p.tokens_per_second for p, s in kept]
    rounds = [r for _, s in kept for r in s.rounds]
    decode = sum(s.seconds.decode for _, s in kept)
    engines = sum(s.seconds.draft + s.seconds.verify for _, s in kept)
    plain_step = sum(p.seconds.verify for p, _ in kept) / sum(len(p.rounds) for p, _ in kept)
    return {
        "prompts": len(kept),
        "plain": float(np.median([p.tokens_per_second for p, _ in kept])),
        "speculative": float(np.median([s.tokens_per_second for _, s in kept])),
        "ratio": [float(x) for x in np.percentile(ratios, (25, 50, 75))],
        "bound": accepted_length(rounds) * plain_step / (engines / len(rounds)),
        "accepted_length": accepted_length(rounds),
        "survival": survival(rounds, kept[0][1].block_size),
        "draft_ms": 1e3 * sum(s.seconds.draft for _, s in kept) / len(rounds),
        "verify_ms": 1e3 * sum(s.seconds.verify for _, s in kept) / len(rounds),
        "plain_step_ms": 1e3 * plain_step,
        "other_share": 1 - engines / decode,
        "identical": sum(p.token_ids == s.token_ids for p, s in pairs),
    }


def survival(rounds: Sequence[Any], block_size: int) -> list[float]:
    """Acceptance by position, rounded for the table."""
    return [round(value, 3) for value in accepted_per_position(rounds, block_size)]


def show(rows: dict[str, dict[str, Any]]) -> None:
    """Print the table."""
    names = ["prompts", "identical outputs", "plain tokens/s", "speculative tokens/s", "ratio, median (quartiles)"]
    names += ["ratio that the engines allow", "accepted length", "draft ms a round", "verify ms a round"]
    names += ["plain ms a step", "neither draft nor verify", "survival 1, 2, …"]
    table = Table("", *rows, title="speculation against plain decoding")
    columns = [cells(row) for row in rows.values()]
    for index, name in enumerate(names):
        table.add_row(name, *(column[index] for column in columns))
    table_console().print(table)


def cells(row: dict[str, Any]) -> list[str]:
    """One column, in the order of `show`."""
    low, middle, high = row["ratio"]
    return [
        str(row["prompts"]),
        str(row["identical"]),
        f"{row['plain']:.1f}",
        f"{row['speculative']:.1f}",
        f"{middle:.2f} ({low:.2f}–{high:.2f})",
        f"{row['bound']:.2f}",
        f"{row['accepted_length']:.3f}",
        f"{row['draft_ms']:.1f}",
        f"{row['verify_ms']:.1f}",
        f"{row['plain_step_ms']:.1f}",
        f"{row['other_share']:.1%}",
        " ".join(f"{value:.3f}".lstrip("0") or "0" for value in row["survival"]),
    ]


def run(arguments: Sequence[str] | None = None) -> int:
    """The exit code; a user's errors become a line and a hint."""
    return exit_code(main, arguments)


if __name__ == "__main__":
    sys.exit(run())
