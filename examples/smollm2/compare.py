"""Answer three prompts of different kinds with and without speculation, in turn, and say what speculation gained.

    python examples/smollm2/compare.py BUNDLE [--max-new-tokens 96] [--turns 3]

Both runtimes take turns on the same engines: one decodes plainly, the other does what it chooses by itself.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import click
from rich.table import Table

from dspark_engines import DsparkError, GenerationRequest, GenerationResult, Runtime, RuntimeOptions, open_bundle
from dspark_engines.text import TextCodec
from dspark_export.commands.console import USER_ERROR, print_error, print_text, reporting, table_console

PROMPTS = {
    "a question": "What is the capital of France, and what is it known for?",
    "arithmetic": "A baker sells 48 rolls in the morning and half as many in the afternoon. How many does she sell in "
    "a day? Please reason step by step.",
    "code": "Write a Python function that returns the sum of the even numbers in a list.",
}
SHOWN = 60


class Answer(NamedTuple):
    """Both ways of one prompt: tokens a second by turn, and the last result of each."""

    kind: str
    plain: list[float]
    chosen: list[float]
    results: tuple[GenerationResult, GenerationResult]

    @property
    def ratio(self) -> float:
        """Median over the turns."""
        return statistics.median(b / a for a, b in zip(self.plain, self.chosen, strict=True))


@click.command(context_settings={"show_default": True})
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--max-new-tokens", default=96, help="Tokens an answer.")
@click.option("--turns", default=3, help="Answers to each prompt, each way.")
def command(bundle: Path, max_new_tokens: int, turns: int) -> None:
    """Compare both ways on BUNDLE."""
    opened = open_bundle(bundle)
    codec = TextCodec(opened)
    options = RuntimeOptions(max_batch=1)
    plain = replace(options, speculation="off")
    with ExitStack() as stack:
        reporter = stack.enter_context(reporting())
        fast = stack.enter_context(Runtime(opened, options))
        slow = stack.enter_context(Runtime(opened, plain, engines=fast.engines))
        step, answers = reporter.step("answering both ways"), []
        for done, (kind, text) in enumerate(PROMPTS.items(), 1):
            request = GenerationRequest(codec.prompt_ids(text), max_new_tokens)
            answers.append(_both(kind, slow, fast, request, turns))
            step(done, len(PROMPTS))
        reason = fast.plan.reason
    _show(codec, answers)
    gained = statistics.median(answer.ratio for answer in answers)
    same = sum(a.token_ids == b.token_ids for a, b in (answer.results for answer in answers))
    print_text(f"{reason}\nspeculation: {gained:.2f} times plain decoding; outputs identical: {same} of {len(answers)}")


def _both(kind: str, slow: Runtime, fast: Runtime, request: GenerationRequest, turns: int) -> Answer:
    """A first turn warms both up and does not count."""
    speeds: tuple[list[float], list[float]] = ([], [])
    results = []
    for turn in range(turns + 1):
        order = (slow, fast) if turn % 2 else (fast, slow)
        found = {runtime: runtime.generate([request])[0] for runtime in order}
        results = [found[slow], found[fast]]
        for speed, result in zip(speeds, results, strict=True):
            speed += [result.tokens_per_second] if turn else []
    return Answer(kind, *speeds, (results[0], results[1]))


def _show(codec: TextCodec, answers: list[Answer]) -> None:
    table = Table("prompt", "answer", "plain", "speculative", "", "tokens a round")
    for answer in answers:
        text = codec.tokenizer.decode(answer.results[1].token_ids)
        rounds = answer.results[1].report("")["accepted_length"]
        speeds = (f"{statistics.median(speed):.0f} tokens/s" for speed in (answer.plain, answer.chosen))
        table.add_row(answer.kind, _short(text), *speeds, f"x {answer.ratio:.2f}", f"{rounds:.2f}")
    table_console().print(table)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"


def run(arguments: Sequence[str] | None = None) -> int:
    """The exit code; a user's errors become a line and a hint."""
    try:
        command.main(arguments, standalone_mode=False)
    except (DsparkError, click.ClickException) as error:
        print_error(error)
        return USER_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(run())
