"""What a runtime chooses by itself against plain decoding, prompt by prompt in turn: it should never be slower.

    python benchmarks/default.py BUNDLE [BUNDLE ...] [--per-source 8] [--max-new-tokens 64] [--figure FILE.png]

One request at a time, runtimes taking turns on the same engines. Seconds are those of the whole request, its prompt
included. A second plain runtime is the control: it against the first should be 1. Prints a table: the median ratios of
tokens a second, their quartiles, and what was chosen.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import click
from rich.progress import track
from rich.table import Table

from both_ways import open_runtimes
from dspark_engines import GenerationRequest, Runtime, open_bundle
from dspark_export.commands.console import print_json, table_console
from dspark_export.prompts import Prompt, encode_prompts
from exit_code import exit_code
from serving_report import check_figure, save_figure
from speculation import take

PROMPTS = Path(__file__).resolve().parent.parent / "calibration" / "prompts" / "evaluation.jsonl"
WARM_UP = 8


class Outcome(NamedTuple):
    """One bundle: ratios to plain by prompt, of default and of plain again; outputs that were the same; the choice."""

    bundle: str
    sources: list[str]
    ratios: list[float]
    control: list[float]
    identical: int
    reason: str

    def row(self) -> list[str]:
        """For the table."""
        share = f"{self.identical} of {len(self.ratios)}"
        return [self.bundle, _quartiles(self.ratios), _quartiles(self.control), share, self.reason]


def _quartiles(ratios: list[float]) -> str:
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} ({low:.3f}-{high:.3f})"


@click.command(context_settings={"show_default": True})
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--prompts", type=click.Path(path_type=Path), default=PROMPTS, help="JSON Lines with prompt and source.")
@click.option("--per-source", default=8, help="Prompts taken of each source.")
@click.option("--max-new-tokens", default=64, help="Tokens a prompt.")
@click.option("--figure", type=click.Path(path_type=Path), help="Draw the ratios by source into this PNG file.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def command(
    bundles: tuple[Path, ...],
    prompts: Path,
    per_source: int,
    max_new_tokens: int,
    figure: Path | None,
    as_json: bool,
) -> None:
    """Compare a runtime's default with plain decoding on BUNDLES."""
    if figure is not None:
        check_figure(figure)
    chosen = sorted(take(prompts, per_source), key=lambda prompt: prompt.source)
    outcomes = [_compare(path, chosen, max_new_tokens) for path in bundles]
    if figure is not None:
        _draw(figure, outcomes)
    if as_json:
        print_json({"bundles": [outcome._asdict() for outcome in outcomes]})
        return
    table = Table("bundle", "default / plain, median (quartiles)", "plain / plain", "identical", "what was chosen")
    for outcome in outcomes:
        table.add_row(*outcome.row())
    table_console().print(table)


def _compare(path: Path, prompts: list[Prompt], tokens: int) -> Outcome:
    bundle = open_bundle(path)
    texts = encode_prompts(bundle, prompts)
    with ExitStack() as stack:
        runtimes = open_runtimes(bundle, 0, ("off", "off"), stack)
        for runtime in runtimes:
            _seconds(runtime, texts[0], WARM_UP)
        rounds = [_turn(runtimes, number, ids, tokens) for number, ids in enumerate(track(texts, transient=True))]
        chosen = runtimes[0].plan.reason
    return Outcome(
        path.name,
        [prompt.source for prompt in prompts],
        [plain[0] / default[0] for default, plain, _ in rounds],
        [plain[0] / again[0] for _, plain, again in rounds],
        sum(plain[1] == default[1] for default, plain, _ in rounds),
        chosen,
    )


def _turn(runtimes: list[Runtime], number: int, ids: list[int], tokens: int) -> list[tuple[float, list[int]]]:
    """One prompt to every runtime, who begins changing from prompt to prompt: what each took and said."""
    count = len(runtimes)
    order = [(number + place) % count for place in range(count)]
    if number // count % 2:
        order.reverse()
    found = {index: _seconds(runtimes[index], ids, tokens) for index in order}
    return [found[index] for index in range(count)]


def _seconds(runtime: Runtime, ids: list[int], tokens: int) -> tuple[float, list[int]]:
    started = time.perf_counter()
    (result,) = runtime.generate([GenerationRequest(ids, tokens)])
    return (time.perf_counter() - started) / max(1, len(result.token_ids)), result.token_ids


def _draw(path: Path, outcomes: list[Outcome]) -> None:
    """A point for every prompt and a bar for the median, by source and bundle; the line is plain decoding."""
    from matplotlib.figure import Figure  # heavy

    sources = list(dict.fromkeys(outcomes[0].sources))
    figure = Figure(figsize=(7.2, 0.7 + 0.42 * len(sources) * len(outcomes)), layout="constrained")
    axes = figure.add_subplot(xlabel="tokens a second over those of plain decoding: median and prompts")
    labels: list[str] = []
    for source in sources:
        for number, outcome in enumerate(outcomes):
            place, colour = len(labels), f"C{number}"
            ratios = [r for r, of in zip(outcome.ratios, outcome.sources, strict=True) if of == source]
            middle = statistics.median(ratios)
            axes.barh(place, middle, color=colour, alpha=0.35)
            axes.plot(ratios, [place] * len(ratios), "o", color=colour, markersize=3.5)
            axes.text(0.02, place, f"{middle:.2f}", va="center", fontsize=9)
            labels.append(f"{source}, {outcome.bundle}")
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    save_figure(figure, path)


def run(arguments: Sequence[str] | None = None) -> int:
    """The exit code; a user's errors become a line and a hint."""
    return exit_code(command, arguments)


if __name__ == "__main__":
    sys.exit(run())
