"""DFlash and DSpark of the example's training: blocks as drafting makes them, the layout that the reader reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dspark_export.checkpoints.dialects.hugging_face import read_hf_target
from dspark_export.checkpoints.dialects.speculators import SpeculatorsDialect
from tests.support.training_data import answers, tiny_llama
from training.block import DFlashDrafter
from training.data import pad
from training.drafter import Settings
from training.kinds import KINDS
from training.loop import write
from training.opening import begin_from, open_drafter

SETTINGS = Settings(depth=3, anchors=4, rank=8, layers=2)


def drafter_of(kind: str) -> DFlashDrafter:
    model = tiny_llama()
    drafter = KINDS[kind](model.config, torch.arange(3, 67), SETTINGS)
    assert isinstance(drafter, DFlashDrafter)
    drafter.borrow(model)
    torch.manual_seed(2)
    for weight in drafter.parameters():
        torch.nn.init.normal_(weight, 1.0 if weight.ndim == 1 else 0.0, 0.2)
    return drafter.requires_grad_(False)


def test_blocks_of_a_batch_are_those_of_each_alone() -> None:
    drafter, rows = drafter_of("dflash"), answers(tiny_llama(), 2)
    anchors = torch.tensor([[6, 11, 9], [7, 8, 11]])
    batch = pad(rows, "cpu")
    together, _ = drafter.blocks(batch.ids, batch.taps, anchors)
    for row, anchor in ((0, 1), (1, 0)):
        at = int(anchors[row, anchor])
        one, _ = drafter.blocks(batch.ids[row, None, : at + 1], batch.taps[row, None, :at], torch.tensor([[at]]))
        torch.testing.assert_close(together[row].unflatten(0, (3, 3))[anchor], one[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["dspark", "dflash"])
def test_what_is_written_is_read_again_and_drafts_the_same(kind: str, tmp_path: Path) -> None:
    drafter, model, row = drafter_of(kind), tiny_llama(), answers(tiny_llama(), 1)[0]
    for weight in drafter.parameters():
        weight.copy_(weight.bfloat16())
    write(drafter, tmp_path)
    again = open_drafter(tmp_path, model)
    batch = pad([row], "cpu")
    state = (batch.ids[0, :12], batch.taps[0, :11], batch.last[0, :11])
    assert (again.kind, again.settings) == (kind, replace(SETTINGS, anchors=Settings.anchors, rank=again.settings.rank))
    assert drafter.propose(*state) == again.propose(*state)


def test_dflash_begins_with_a_dspark_drafters_backbone(tmp_path: Path) -> None:
    write(drafter_of("dspark"), tmp_path)
    drafter = drafter_of("dflash")
    for weight in drafter.parameters():
        weight.zero_()
    begin_from(drafter, tmp_path)
    assert all(bool(weight.any()) for weight in drafter.parameters())


@pytest.mark.parametrize("kind", ["dspark", "dflash"])
def test_the_export_reads_what_is_written(kind: str, tmp_path: Path) -> None:
    model = tiny_llama()
    model.save_pretrained(tmp_path / "target")
    write_into = tmp_path / "drafter"
    write_into.mkdir()
    write(drafter_of(kind), write_into)
    spec = read_hf_target(tmp_path / "target")[0]
    read = SpeculatorsDialect().read(write_into, spec).spec
    assert (read.block_size, read.markov.rank, read.anchor) == (3, 8 if kind == "dspark" else 0, "predicts")
    assert read.target_layer_ids == (1, 2, 3, 5, 6)
