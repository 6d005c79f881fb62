"""The example's drafters as they lie in the repository: their files are what their layouts say, and small."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from tests.support.training_data import ROOT

FOLDER = ROOT / "examples" / "smollm2" / "drafters"
MEGABYTE = 10**6


@pytest.mark.parametrize("kind", ["eagle3", "mtp", "dflash"])
def test_its_weights_are_finite_and_in_bfloat16(kind: str) -> None:
    tensors = load_file(FOLDER / kind / "model.safetensors")
    weights = {name: weight for name, weight in tensors.items() if name not in ("d2t", "t2d")}
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}
    assert all(bool(weight.isfinite().all()) and bool(weight.any()) for weight in weights.values())
    assert (FOLDER / kind / "model.safetensors").stat().st_size < 30 * MEGABYTE


def test_eagle3_drafts_the_ids_that_its_offsets_give() -> None:
    config = json.loads((FOLDER / "eagle3" / "config.json").read_text())
    tensors = load_file(FOLDER / "eagle3" / "model.safetensors")
    ids = tensors["d2t"] + torch.arange(config["draft_vocab_size"])
    assert ids.tolist() == tensors["t2d"].nonzero()[:, 0].tolist()
