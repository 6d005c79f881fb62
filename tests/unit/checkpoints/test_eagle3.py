"""Eagle3 drafters in the plain layout, and what is known to go wrong with them. `bad_chains` has what is refused."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dspark_export.checkpoints import DrafterSpec, TargetSpec, open_drafter, with_draft_length
from dspark_export.checkpoints.dialects import drafter_dialect
from dspark_export.checkpoints.expected import drafter_tensors
from tests.support import chains, tiny

IDS = "eagle_aux_hidden_state_layer_ids"
SPEC = replace(chains.spec(), own_head=True, draft_vocabulary=chains.KEPT)
DEEP = replace(tiny.target_spec(), shape=tiny.shape(12, qk_norm=False))


def read(folder: Path, target: TargetSpec | None = None) -> DrafterSpec:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return open_drafter(folder, target or tiny.target_spec()).spec


def taps_of(ids: list[int] | None, folder: Path, at_top: bool = False) -> tuple[int, ...]:
    """Taps of a drafter for a target of twelve layers."""
    keys: dict[str, Any] = {"eagle_config": None if at_top or ids is None else {IDS: ids}}
    keys |= {IDS: ids} if at_top else {}
    chains.write_eagle3(folder, keys)
    return read(folder, DEEP).target_layer_ids


def test_it_is_read(tmp_path: Path) -> None:
    """`midlayer` is layer 0; the head's rows are of the tokens that d2t says, the embedding is the target's."""
    folder = chains.write_eagle3(tmp_path)
    assert drafter_dialect(folder).name == "Eagle3"
    assert read(folder) == SPEC
    drafter = open_drafter(folder, tiny.target_spec())
    stored = load_file(folder / "model.safetensors")
    np.testing.assert_array_equal(drafter.weights["lm_head.weight"], stored["lm_head.weight"])
    np.testing.assert_array_equal(
        drafter.weights["layers.0.self_attn.q_proj.weight"], stored["midlayer.self_attn.q_proj.weight"]
    )
    assert drafter.weights.shapes["layers.0.self_attn.k_proj.weight"][1] == 2 * tiny.HIDDEN


@pytest.mark.parametrize("at_top", [False, True])
def test_ids_say_what_enters_a_layer(at_top: bool, tmp_path: Path) -> None:
    """What enters layer 2 comes out of layer 1."""
    assert taps_of([2, 6, 9], tmp_path, at_top) == (1, 5, 8)


def test_the_trainer_s_list_says_what_comes_out_of_layers(tmp_path: Path) -> None:
    """[1, N//2-1, N-4], as SpecForge writes it: the same layers as [2, N//2, N-3] of those who count inputs."""
    with pytest.warns(UserWarning, match=r"is \[1, 5, 8\]: read as what comes out of these layers"):
        assert open_deep(tmp_path, [1, 5, 8]) == (1, 5, 8)


def test_another_list_that_begins_with_one_is_said_to_be_inputs(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"is \[1, 4, 7\]: read as what enters these layers"):
        assert open_deep(tmp_path, [1, 4, 7]) == (0, 3, 6)


def test_without_ids_the_usual_layers_are_said(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"what enters layers \[2, 6, 9\] is read, as by default"):
        assert open_deep(tmp_path, None) == (1, 5, 8)


def open_deep(folder: Path, ids: list[int] | None) -> tuple[int, ...]:
    chains.write_eagle3(folder, {"eagle_config": None if ids is None else {IDS: ids}})
    return open_drafter(folder, DEEP).spec.target_layer_ids


@pytest.mark.parametrize(
    ("keys", "name", "changes"),
    [
        ({"norm_before_residual": True}, None, {"residual_normed": True}),
        ({"norm_before_fc": True}, "input_norm.weight", {"tap_norm": "whole"}),
        ({"fc_norm": True}, "fc_norm.1.weight", {"tap_norm": "each"}),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_norms_are_read_wherever_they_are_said(
    keys: dict[str, Any], name: str | None, changes: dict[str, Any], nested: bool, tmp_path: Path
) -> None:
    said = {"eagle_config": {IDS: [0, 2, 3]} | keys} if nested else keys
    folder = chains.write_eagle3(tmp_path, said)
    wanted = replace(SPEC, chain=chains.spec(**changes).chain)
    tensors, norms = load_file(folder / "model.safetensors"), drafter_tensors(wanted)
    extra = {n: np.ones(norms[n], np.float32) for n in norms if n.startswith(("input_norm", "fc_norm"))}
    assert name is None or name in extra
    save_file(tensors | extra, folder / "model.safetensors")
    assert read(folder) == wanted


def test_a_whole_vocabulary_needs_no_d2t(tmp_path: Path) -> None:
    for number, size in enumerate((tiny.VOCAB, None)):
        folder = chains.write_eagle3(tmp_path / str(number), {"draft_vocab_size": size}, reduced=False)
        assert read(folder) == replace(SPEC, draft_vocabulary=())


def test_without_a_draft_vocabulary_the_head_may_be_the_target_s(tmp_path: Path) -> None:
    folder = chains.write_eagle3(tmp_path, {"draft_vocab_size": None}, reduced=False)
    tensors = load_file(folder / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors")
    assert read(folder) == replace(SPEC, draft_vocabulary=(), own_head=False)


@pytest.mark.parametrize("nested", [False, True])
def test_rope_is_read_flat_and_nested(nested: bool, tmp_path: Path) -> None:
    """And a short max_position_embeddings of its own limits nothing: tables are as long as the bundle's context."""
    flat = {"rope_parameters": None, "rope_theta": 5e5}
    keys = {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}} if nested else flat
    folder = chains.write_eagle3(tmp_path, {**keys, "max_position_embeddings": 8})
    assert {layer.rope.theta for layer in read(folder).shape.layers} == {5e5}


def test_rows_are_sorted_by_id(tmp_path: Path) -> None:
    folder = chains.write_eagle3(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    order = np.random.default_rng(0).permutation(len(chains.KEPT))
    turned = {
        "d2t": np.array(chains.KEPT)[order] - np.arange(len(order)),
        "lm_head.weight": tensors["lm_head.weight"][order],
    }
    save_file(tensors | turned, folder / "model.safetensors")
    assert read(folder) == SPEC
    drafter = open_drafter(folder, tiny.target_spec())
    np.testing.assert_array_equal(drafter.weights["lm_head.weight"], tensors["lm_head.weight"])


def test_how_many_tokens_are_drafted_is_the_builder_s_choice(tmp_path: Path) -> None:
    folder = chains.write_eagle3(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert open_drafter(folder, tiny.target_spec()).spec.draft_length == 5
        assert with_draft_length(open_drafter(folder, tiny.target_spec()), 3).spec == replace(SPEC, block_size=3)
    block = tiny.write_drafter(tmp_path / "block")
    assert with_draft_length(open_drafter(block, tiny.target_spec()), tiny.BLOCK).spec == tiny.drafter_spec()
