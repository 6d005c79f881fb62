"""Drafters of the speculators library: keys that mean less than they seem to, and those that may not be missing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import open_drafter
from tests.support import tiny
from tests.unit.checkpoints.test_speculators import change, written

SPEC = replace(tiny.drafter_spec(), own_head=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path / "drafter", SPEC)


@pytest.mark.parametrize("label", ["llama", "qwen3", "gpt_oss", None])
def test_layers_labelled_llama_have_norms_of_heads_all_the_same(folder: Path, label: str | None) -> None:
    """The library builds Qwen3's layers whatever `model_type` says."""
    layers = json.loads((folder / "config.json").read_text())["transformer_layer_config"]
    tiny.edit_config(folder, transformer_layer_config=layers | {"model_type": label})
    spec = open_drafter(folder, tiny.target_spec()).spec
    assert spec == SPEC
    assert all(layer.qk_norm for layer in spec.shape.layers)


@pytest.mark.parametrize(
    "rope", [{"rope_theta": 7e5}, {"rope_parameters": {"rope_type": "default", "rope_theta": 7e5}}]
)
def test_rope_lies_flat_or_in_its_dictionary(folder: Path, rope: dict[str, Any]) -> None:
    layers = json.loads((folder / "config.json").read_text())["transformer_layer_config"]
    del layers["rope_parameters"]
    tiny.edit_config(folder, transformer_layer_config=layers | rope)
    assert open_drafter(folder, tiny.target_spec()).spec.shape.layers[0].rope.theta == 7e5


@pytest.mark.parametrize("d2t", [None, np.zeros(tiny.VOCAB, np.int64)], ids=["no map", "a map that moves nothing"])
def test_a_draft_vocabulary_of_all_tokens_is_no_reduction(folder: Path, d2t: np.ndarray | None) -> None:
    change(folder, d2t=d2t)
    spec = open_drafter(folder, tiny.target_spec()).spec
    assert (spec.draft_vocabulary, spec.draft_vocab_size) == ((), tiny.VOCAB)


def test_a_map_that_moves_tokens_of_a_whole_vocabulary_is_refused(folder: Path) -> None:
    change(folder, d2t=np.array([1, -1, *[0] * (tiny.VOCAB - 2)]))
    with pytest.raises(CheckpointError, match="is the whole vocabulary, and d2t moves its tokens"):
        open_drafter(folder, tiny.target_spec())


@pytest.mark.parametrize("key", ["aux_hidden_state_layer_ids", "mask_token_id", "transformer_layer_config"])
def test_nothing_is_guessed_for_a_key_that_is_missing(folder: Path, key: str) -> None:
    """Taps above all: five layers at places that a formula gives would draft, and hardly one draft would stand."""
    tiny.edit_config(folder, **{key: None})
    with pytest.raises(CheckpointError, match=f"missing key '{key}'"):
        open_drafter(folder, tiny.target_spec())
