"""Train small drafters for a Llama-type target: answers of the target, training on them, and the accepted length.

    python examples/smollm2/train.py generate --target DIR --data DIR [--prompts FILE.jsonl]
    python examples/smollm2/train.py train --method eagle3 --target DIR --data DIR --out DIR
    python examples/smollm2/train.py measure --target DIR --drafter DIR --prompts FILE.jsonl

DIR of the target is a Hugging Face directory. All three may be ended at any moment; the first two go on from there.
"""

from __future__ import annotations

from pathlib import Path

import click
import torch

from training.data import draft_vocabulary, long_enough, open_shards
from training.drafter import Settings
from training.kinds import KINDS
from training.loop import Plan, train
from training.target import fast_dtype, open_target

FOLDER = click.Path(path_type=Path, file_okay=False)


@click.group(context_settings={"show_default": True}, help=__doc__)
def command() -> None:
    torch.set_num_threads(2)


@command.command("train")
@click.option("--method", type=click.Choice(list(KINDS)), required=True)
@click.option("--target", type=FOLDER, required=True)
@click.option("--data", type=FOLDER, required=True)
@click.option("--out", type=FOLDER, required=True)
@click.option("--steps", default=Plan.steps)
@click.option("--batch", default=Plan.batch)
@click.option("--report", default=Plan.report)
@click.option("--draft-vocabulary", default=8192)
@click.option("--held", default=96)
@click.option("--anchors", default=Settings.anchors)
def train_command(method: str, target: Path, data: Path, out: Path, steps: int, batch: int, report: int, draft_vocabulary_: int = 0, **k) -> None:
    pass


if __name__ == "__main__":
    command()
