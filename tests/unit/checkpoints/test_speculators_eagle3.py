"""Eagle3 drafters of the speculators library: what is read, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import open_drafter
from dspark_export.checkpoints.reduction import CUT, reduce_drafter
from tests.support import chains, tiny
from tests.support.chain_layouts import deep_target, proposing, speculators_spec, write_speculators

SPECS = {
    "llama's layer": speculators_spec(),
    "qwen3's layer": speculators_spec("qwen3"),
    "all tokens": speculators_spec(reduced=False),
    "two layers": speculators_spec(layers=2),
    "added to what is normed": speculators_spec(residual_normed=True),
    "taps normed as one": speculators_spec(tap_norm="whole"),
    "taps normed each": speculators_spec(tap_norm="each"),
    "the state normed": speculators_spec(state_normed=True),
    "an embedding of its own": replace(speculators_spec(), own_embedding=True),
    "no head of its own": replace(speculators_spec(), own_head=False),
}
TAPS = "eagle_aux_hidden_state_layer_ids"


@pytest.mark.parametrize("case", SPECS)
def test_what_the_library_writes_is_read(tmp_path: Path, case: str) -> None:
    """Its ids of layers count what enters one; a chain is as long as its config proposes."""
    spec = SPECS[case]
    drafter = open_drafter(write_speculators(tmp_path, spec), tiny.target_spec())
    assert drafter.spec == spec
    for name, array in chains.tensors_of(spec).items():
        np.testing.assert_array_equal(drafter.weights[name], array)


def test_older_files_call_the_layer_midlayer(tmp_path: Path) -> None:
    folder = write_speculators(tmp_path, names=lambda name: name.replace("layers.0.", "midlayer."))
    assert "midlayer.hidden_norm.weight" in load_file(folder / "model.safetensors")
    assert open_drafter(folder, tiny.target_spec()).spec == speculators_spec()


def test_both_names_at_once_are_refused(tmp_path: Path) -> None:
    folder = write_speculators(tmp_path)
    change(folder, **{"midlayer.hidden_norm.weight": np.ones(tiny.HIDDEN, np.float32)})
    with pytest.raises(CheckpointError, match=r"holds both tensor (midlayer|layers\.0)\.hidden_norm\.weight and "):
        open_drafter(folder, tiny.target_spec())


def test_layers_without_a_kind_are_qwen3_s(tmp_path: Path) -> None:
    """The library's default; `model_type` tells Llama's layers, which have no norms of heads."""
    layers = tiny.decoder_config(tiny.shape(1, qk_norm=True))
    folder = write_speculators(tmp_path, speculators_spec("qwen3"), transformer_layer_config=layers)
    assert open_drafter(folder, tiny.target_spec()).spec == speculators_spec("qwen3")


def test_biases_stand_on_all_four_projections(tmp_path: Path) -> None:
    spec = speculators_spec()
    spec = replace(spec, shape=tiny.with_layers(spec.shape, qkv_bias=True, output_bias=True))
    layers = tiny.decoder_config(spec.shape) | {"model_type": "llama", "attention_bias": True}
    folder = write_speculators(tmp_path, spec, transformer_layer_config=layers)
    assert open_drafter(folder, tiny.target_spec()).spec == spec


@pytest.mark.parametrize("nested", [True, False])
def test_rope_lies_flat_or_in_its_dictionary(tmp_path: Path, nested: bool) -> None:
    """A position beyond max_position_embeddings is turned as any other: no table ends there."""
    layers = tiny.decoder_config(tiny.shape(1, qk_norm=False)) | {"model_type": "llama", "max_position_embeddings": 8}
    del layers["rope_parameters"]
    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 7e5}} if nested else {"rope_theta": 7e5}
    folder = write_speculators(tmp_path, transformer_layer_config=layers | rope)
    assert open_drafter(folder, tiny.target_spec()).spec.shape.layers[0].rope.theta == 7e5


@pytest.mark.parametrize("keys", [{TAPS: None}, {TAPS: ...}], ids=["null", "absent"])
def test_taps_that_are_not_named_are_the_library_s_own_and_said(tmp_path: Path, keys: dict[str, Any]) -> None:
    folder = write_speculators(tmp_path, **keys)
    with pytest.warns(UserWarning, match=r"is not there: the library's own are taken, \[2, 4, 5\]"):
        assert open_drafter(folder, deep_target()).spec.target_layer_ids == (1, 3, 4)


@pytest.mark.parametrize(("tokens", "length"), [(3, 3), (None, 5)])
def test_a_chain_is_as_long_as_is_proposed(tmp_path: Path, tokens: int | None, length: int) -> None:
    folder = write_speculators(tmp_path, speculators_config=proposing(tokens))
    assert open_drafter(folder, tiny.target_spec()).spec.draft_length == length


def test_a_residual_that_is_not_named_is_the_library_s_default_where_it_dated_the_file(tmp_path: Path) -> None:
    """Programs differ on it, so in a file by hand it is asked for."""
    folder = write_speculators(tmp_path, norm_before_residual=...)
    assert open_drafter(folder, tiny.target_spec()).spec == speculators_spec()
    tiny.edit_config(folder, speculators_version=None)
    with pytest.raises(CheckpointError, match="missing key 'norm_before_residual', and programs differ"):
        open_drafter(folder, tiny.target_spec())


def test_a_map_that_does_not_rise_is_the_same_drafter(tmp_path: Path) -> None:
    rising = open_drafter(write_speculators(tmp_path / "rising"), tiny.target_spec())
    folder = write_speculators(tmp_path / "mixed")
    order = np.random.default_rng(0).permutation(len(chains.KEPT))
    head = load_file(folder / "model.safetensors")[CUT[0]][order]
    change(folder, d2t=np.array(chains.KEPT)[order] - np.arange(len(order)), **{CUT[0]: head})
    mixed = open_drafter(folder, tiny.target_spec())
    assert mixed.spec == rising.spec
    for name, array in rising.weights.items():
        np.testing.assert_array_equal(mixed.weights[name], array)


def test_it_can_be_cut_down_to_fewer_tokens(tmp_path: Path) -> None:
    whole = open_drafter(write_speculators(tmp_path, speculators_spec(reduced=False)), tiny.target_spec())
    cut = reduce_drafter(whole, chains.KEPT)
    assert cut.spec == speculators_spec()
    np.testing.assert_array_equal(cut.weights["lm_head.weight"], whole.weights["lm_head.weight"][list(chains.KEPT)])


def change(folder: Path, **tensors: np.ndarray | None) -> None:
    path = folder / "model.safetensors"
    found = load_file(path) | tensors
    save_file({name: array for name, array in found.items() if array is not None}, path)
