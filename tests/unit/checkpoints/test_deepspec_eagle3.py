"""Eagle3 drafters that DeepSpec trained, over Qwen3's layers and Gemma 4's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import open_drafter
from dspark_export.checkpoints.dialects import drafter_dialect
from tests.support import tiny
from tests.support.chain_layouts import FIVE, TTT, changed, deep_target, deepspec_spec, write_deepspec


@pytest.mark.parametrize("architecture", ["Qwen3Eagle3Model", "Eagle3DraftModel"])
def test_one_of_qwen3_is_a_chain_that_is_as_long_as_it_was_trained(tmp_path: Path, architecture: str) -> None:
    """Five taps as we count them, what is added to is not normed, nor is the state; the second name is the
    evaluation's."""
    folder = write_deepspec(tmp_path, architectures=[architecture])
    drafter = open_drafter(folder, deep_target())
    assert drafter_dialect(folder).name == "DeepSpec"
    assert drafter.spec == deepspec_spec()
    assert (drafter.spec.draft_length, drafter.spec.target_layer_ids) == (TTT, tuple(FIVE))
    for name, array in load_file(folder / "model.safetensors").items():
        np.testing.assert_array_equal(drafter.weights[name], array)


@pytest.mark.parametrize("shared", [True, False], ids=["values are keys", "values of their own"])
def test_one_of_gemma4_has_its_layer_scale_and_softcap(tmp_path: Path, shared: bool) -> None:
    spec = deepspec_spec("gemma4")
    folder = write_deepspec(tmp_path, "gemma4")
    if not shared:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"attention_k_eq_v": False}))
        with pytest.raises(CheckpointError, match=r"missing tensor 'layers\.0\.self_attn\.v_proj\.weight'"):
            open_drafter(folder, deep_target())
        return
    found = open_drafter(folder, deep_target()).spec
    assert found == spec
    layer = found.shape.layers[0]
    assert (layer.head_dim, layer.scale, layer.sandwich, layer.value_norm, layer.layer_scalar) == (32, 1.0, *[True] * 3)
    assert (found.logit_softcap, round(found.embedding_scale, 3)) == (3.0, 6.928)


def test_tables_that_were_left_out_are_the_target_s(tmp_path: Path) -> None:
    folder = write_deepspec(tmp_path, without=("embed_tokens.weight", "lm_head.weight"))
    expected = replace(deepspec_spec(), own_embedding=False, own_head=False)
    assert open_drafter(folder, deep_target()).spec == expected


def test_a_prefix_that_torch_s_compiler_left_is_taken_off(tmp_path: Path) -> None:
    folder = write_deepspec(tmp_path)
    tensors = {f"_orig_mod.{name}": x for name, x in load_file(folder / "model.safetensors").items()}
    tiny.save_file(tensors, folder / "model.safetensors")
    assert open_drafter(folder, deep_target()).spec == deepspec_spec()


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "three taps": ({"target_layer_ids": [1, 3, 5]}, "and DeepSpec's Eagle3 taps 5 layers from 0 up"),
    "the embedding tapped": ({"target_layer_ids": [-1, 1, 2, 3, 4]}, "and DeepSpec's Eagle3 taps 5 layers from 0 up"),
    "taps that fall": ({"target_layer_ids": [6, 4, 2, 1, 0]}, "must be a non-empty, strictly rising list"),
    "the last layer tapped": ({"target_layer_ids": [0, 1, 2, 4, 7]}, "taps layer 7, the target's final layer is 7"),
    "no length": ({"ttt_length": ...}, "missing key 'ttt_length'"),
    "a chain of nothing": ({"ttt_length": 0}, "ttt_length: Input should be greater than 0"),
    "no taps": ({"target_layer_ids": ...}, "missing key 'target_layer_ids'"),
    "two layers": (
        {"num_hidden_layers": 2, "layer_types": ["full_attention"] * 2},
        "num_hidden_layers: an Eagle3 drafter of DeepSpec has one layer (found 2)",
    ),
    "biases": ({"attention_bias": True}, "attention_bias: Input should be False"),
    "another target's": ({"num_target_layers": 9}, "drafter has num_target_layers 9, the target has 8"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_a_line(tmp_path: Path, case: str) -> None:
    keys, message = REFUSED[case]
    folder = write_deepspec(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(changed(config, keys)))
    with pytest.raises(CheckpointError) as caught:
        open_drafter(folder, deep_target())
    assert message in str(caught.value)
