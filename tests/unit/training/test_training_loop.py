"""The example's training loop: it learns, it goes on where it stopped, and its files are whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.training_data import answers, tiny_llama
from training.data import draft_vocabulary
from training.drafter import Drafter, Settings
from training.kinds import KINDS
from training.loop import Plan, accepted, train

SETTINGS = Settings(depth=3, anchors=8, rank=8, layers=1)
PLAN = Plan(steps=4, batch=4, rate=2e-3, warm_up=1, report=2)


def fresh(kind: str) -> Drafter:
    torch.manual_seed(0)
    model = tiny_llama()
    drafter = KINDS[kind](model.config, torch.arange(3, 67), SETTINGS)
    drafter.borrow(model)
    drafter.warm_start(model)
    return drafter


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_training_on_a_few_answers_learns_them(kind: str, tmp_path: Path) -> None:
    rows, drafter = answers(tiny_llama()), fresh(kind)
    before = accepted(drafter, rows, PLAN)["accepted_length"]
    train(drafter, rows, rows, tmp_path, Plan(steps=24, batch=4, rate=4e-3, warm_up=1, report=24))
    assert accepted(drafter, rows, PLAN)["accepted_length"] > max(before + 0.1, 1.4)


def test_a_second_run_goes_on_from_the_checkpoint(tmp_path: Path) -> None:
    rows = answers(tiny_llama())
    train(fresh("eagle3"), rows, rows, tmp_path, PLAN)
    half = load_file(tmp_path / "model.safetensors")
    other = fresh("eagle3")
    train(other, rows, rows, tmp_path, PLAN)
    assert torch.equal(other.stored_weights()["fc.weight"].bfloat16(), half["fc.weight"])
    train(other, rows, rows, tmp_path, Plan(steps=6, batch=4, warm_up=1, report=2))
    assert [point["step"] for point in json.loads((tmp_path / "curve.json").read_text())] == [2, 4, 6]
    assert not torch.equal(load_file(tmp_path / "model.safetensors")["fc.weight"], half["fc.weight"])
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "config.json",
        "curve.json",
        "model.safetensors",
        "training.pt",
    ]


def test_the_draft_vocabulary_is_what_answers_say_most() -> None:
    rows = answers(tiny_llama(), 2)
    counts = torch.zeros(96)
    for row in rows:
        for token in row["ids"][row["prompt_len"] :].tolist():
            counts[token] += 1
    ids = draft_vocabulary(rows, 5, 96)
    assert ids.tolist() == sorted(ids.tolist())
    assert counts[ids].min() >= counts[[i for i in range(96) if i not in ids.tolist()]].max()
