"""z-lab's DFlash drafters: a backbone alone, whose anchor predicts nothing. `bad_dflash` has what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dspark_export.checkpoints import open_drafter
from dspark_export.checkpoints.dialects import drafter_dialect
from tests.support import tiny
from tests.support.bad_dflash import SPEC, write_dflash


def test_it_is_a_backbone_of_given_anchors(tmp_path: Path) -> None:
    """Taps are counted as DeepSpec's: transformers' hidden_states[id + 1] is what leaves layer id. A block of 16 drafts
    15 tokens, with the embedding and the head of its target."""
    folder = write_dflash(tmp_path / "drafter")
    assert drafter_dialect(folder).name == "DFlash"
    drafter = open_drafter(folder, tiny.target_spec())
    assert drafter.spec == SPEC
    assert drafter.spec.draft_length == tiny.BLOCK - 1
    same = open_drafter(tiny.write_drafter(tmp_path / "same", SPEC), tiny.target_spec())
    for name, array in same.weights.items():
        np.testing.assert_array_equal(drafter.weights[name], array)


@pytest.mark.parametrize("outer", [None, tiny.BLOCK])
def test_the_block_size_may_lie_inside(tmp_path: Path, outer: int | None) -> None:
    folder = write_dflash(tmp_path / "drafter", block_size=tiny.BLOCK)
    tiny.edit_config(folder, block_size=outer, num_target_layers=None)
    assert open_drafter(folder, tiny.target_spec()).spec == SPEC


def test_shifted_labels_are_an_anchor_that_predicts(tmp_path: Path) -> None:
    folder = write_dflash(tmp_path / "drafter", shift_label=True, projector_type="dflash")
    assert open_drafter(folder, tiny.target_spec()).spec == replace(SPEC, anchor="predicts")
