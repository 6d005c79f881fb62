"""Train small drafters for a Llama-type target: its answers, training on them, and the accepted length.

\b
    python examples/smollm2/train.py target --gguf FILE.gguf --output HF
    python examples/smollm2/train.py generate --target HF --data DATA --prompts FILE.jsonl
    python examples/smollm2/train.py train --method eagle3 --target HF --data DATA --out DIR
    python examples/smollm2/train.py measure --target HF --drafter DIR --prompts FILE.jsonl

HF is a Hugging Face directory. `generate` and `train` may be stopped at any moment and go on when they run again.
Needs `pip install 'dspark-export[parity]'`, and a processor or GPU that multiplies bfloat16 fast.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import torch

from training.data import draft_vocabulary, long_enough, open_shards
from training.drafter import Settings
from training.generation import Answerer, Work, generate, read_prompts
from training.kinds import KINDS
from training.loop import Plan, train
from training.measuring import measure, report
from training.opening import begin_from, open_drafter, vocabulary_of
from training.problems import TrainingError
from training.target import fast_dtype, open_target, open_tokenizer, unpack

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
MINIMUM_EXTRA = 2
"""Tokens that an answer must have more than a block, so that one fits in wherever it begins."""
target_option = click.option("--target", type=FOLDER, required=True, help="The target, a Hugging Face directory.")
data_option = click.option("--data", type=FOLDER, required=True, help="Folder of the answers.")
device_option = click.option("--device", default="cpu", help="cpu or cuda.")


@click.group(context_settings={"show_default": True}, help=__doc__)
@click.option("--threads", default=2, help="Of the processor.")
def command(threads: int) -> None:
    torch.set_num_threads(threads)


@command.command("target")
@click.option("--gguf", type=FILE, required=True, help="A Llama-type GGUF.")
@click.option("--output", type=FOLDER, required=True, help="The Hugging Face directory.")
def target_command(gguf: Path, output: Path) -> None:
    """Dequantise a GGUF.

    Drafters of a quantised target are trained on what that target says, not on what the original says.
    """
    unpack(gguf, output)


@command.command("generate")
@target_option
@data_option
@click.option("--prompts", type=FILE, help="JSON lines with a `prompt`; without, only the target's own questions.")
@click.option("--minutes", default=Work.minutes, help="Time after which no more shards are begun.")
@click.option("--batch", default=Work.batch, help="Answers a shard.")
@click.option("--tokens", default=Work.tokens, help="Of an answer, at most.")
@device_option
def generate_command(
    target: Path, data: Path, prompts: Path | None, minutes: float, batch: int, tokens: int, device: str
) -> None:
    """Let the target answer, and store its states."""
    answerer = Answerer(open_target(target, fast_dtype(device), device), open_tokenizer(target))
    texts = [row["prompt"] for row in read_prompts(prompts)] if prompts else []
    generate(answerer, texts, data, Work(minutes=minutes, batch=batch, tokens=tokens))


@command.command("train")
@click.option("--method", type=click.Choice(sorted(KINDS)), required=True, help="The kind of drafter.")
@target_option
@data_option
@click.option("--out", type=FOLDER, required=True, help="Its directory; a checkpoint there is gone on from.")
@click.option("--begin", type=FOLDER, help="A drafter whose weights and draft vocabulary to begin with.")
@click.option("--steps", default=Plan.steps, help="In all, those of earlier runs included.")
@click.option("--batch", default=Plan.batch, help="Answers a step.")
@click.option("--anchors", default=Settings.anchors, help="Places in an answer at which drafting starts, a step.")
@click.option("--depth", default=Settings.depth, help="Draft tokens a round: the block, or the steps of a chain.")
@click.option("--draft-vocabulary", "size", default=8192, help="Tokens that can be drafted: the most frequent.")
@click.option("--rate", default=Plan.rate, help="Learning rate of AdamW; Muon's is five times that.")
@click.option("--held", default=48, help="Answers that are kept out, for the curve.")
@click.option("--report", "every", default=Plan.report, help="Steps between two checkpoints.")
@device_option
def train_command(
    *, method: str, target: Path, data: Path, out: Path, begin: Path | None, steps: int, batch: int, anchors: int,
    depth: int, size: int, rate: float, held: int, every: int, device: str,
) -> None:  # fmt: skip
    """Train a drafter on stored answers."""
    torch.manual_seed(0)
    answers = long_enough([answer for shard in open_shards(data) for answer in shard], depth + MINIMUM_EXTRA)
    if len(answers) < held + batch:
        raise TrainingError(f"{data}: {len(answers)} answers, fewer than are kept out", hint="generate more")
    model = open_target(target, fast_dtype(device), device)
    kept, taught = answers[:held], answers[held:]
    vocabulary = vocabulary_of(begin) if begin else draft_vocabulary(taught, size, model.config.vocab_size)
    drafter = KINDS[method](model.config, vocabulary.to(device), Settings(depth=depth, anchors=anchors)).to(device)
    drafter.borrow(model)
    drafter.warm_start(model)
    if begin:
        begin_from(drafter, begin)
    train(drafter, taught, kept, out, Plan(steps=steps, batch=batch, rate=rate, report=every, device=device))


@command.command("measure")
@target_option
@click.option("--drafter", type=FOLDER, required=True, help="A drafter's directory.")
@click.option("--prompts", type=FILE, required=True, help="JSON lines with a `prompt` and perhaps a `source`.")
@click.option("--first", default=0, help="Only so many prompts of each source; 0: all.")
@click.option("--depth", default=0, help="Draft tokens a round; 0: as the drafter's config.json says, or 5.")
@click.option("--tokens", default=64, help="Of an answer, at most.")
def measure_command(target: Path, drafter: Path, prompts: Path, first: int, depth: int, tokens: int) -> None:
    """Measure the accepted length in a plain loop.

    Greedy drafting in float32, always the whole depth; the accepted length counts the target's own token.
    """
    model = open_target(target, torch.float32)
    answerer = Answerer(model, open_tokenizer(target))
    opened = open_drafter(drafter, model, depth)
    rows = read_prompts(prompts)
    asked = [(row.get("source", "all"), torch.tensor(answerer.ids(row["prompt"]))) for row in few(rows, first)]
    tallies = measure(model, opened.propose, asked, tokens, answerer.end)
    print(json.dumps(report(tallies, opened.settings.depth), indent=2))


def few(rows: Sequence[dict[str, str]], first: int) -> list[dict[str, str]]:
    """The first so many of each source; all if 0."""
    seen: dict[str, int] = {}
    chosen = []
    for row in rows:
        source = row.get("source", "all")
        seen[source] = seen.get(source, 0) + 1
        chosen += [row] if not first or seen[source] <= first else []
    return chosen


def run(arguments: Sequence[str] | None = None) -> int:
    """The exit code; a user's errors become a line and a hint."""
    try:
        command.main(arguments, standalone_mode=False)
    except (TrainingError, click.ClickException) as error:
        print(f"error: {error}", file=sys.stderr)
        print(f"hint: {getattr(error, 'hint', 'see --help')}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(run())
