"""Eagle3 drafters of the speculators library: what is read, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import open_drafter
from dspark_export.checkpoints.reduction import CUT
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


def change(folder: Path, **tensors: np.ndarray | None) -> None:
    path = folder / "model.safetensors"
    found = load_file(path) | tensors
    save_file({name: array for name, array in found.items() if array is not None}, path)


def layers(**keys: Any) -> dict[str, Any]:
    return {
        "transformer_layer_config": tiny.decoder_config(tiny.shape(1, qk_norm=False)) | {"model_type": "llama"} | keys
    }


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: change(folder, **{name: None})


ABSOLUTE = np.array(chains.KEPT)
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two norms of taps": ({"norm_before_fc": True, "fc_norm": True}, "norm_before_fc and fc_norm are both true"),
    "another width": ({"target_hidden_size": 64}, "target_hidden_size is 64 and hidden_size 48: a drafter of another"),
    "taps that fall": ({TAPS: [3, 2, 1]}, f"{TAPS} must be a strictly rising list"),
    "no taps at all": ({TAPS: []}, f"{TAPS} must be a strictly rising list"),
    "four taps": ({TAPS: [0, 1, 2, 3]}, f"fc.weight takes 3 taps, and {TAPS} is [0, 1, 2, 3]"),
    "the last layer tapped": ({TAPS: [1, 2, 4]}, f"{TAPS} taps 4, which is not below the target's last layer"),
    "unnamed taps of a small target": ({TAPS: None}, "and a target of 4 layers has no usual ones"),
    "more than all tokens": ({"draft_vocab_size": 129}, "draft_vocab_size 129 is more than the vocabulary of 128"),
    "P-EAGLE's mask": ({"mask_token_id": 3}, "unknown key 'mask_token_id'"),
    "a key that nobody knows": ({"norm_twice": True}, "unknown key 'norm_twice'"),
    "layers of experts": (layers(model_type="qwen3_moe"), "model_type: Input should be 'llama' or 'qwen3'"),
    "latent attention": (layers(model_type="deepseek_v3"), "model_type: Input should be 'llama' or 'qwen3'"),
    "layers that slide": (layers(layer_types=["sliding_attention"]), "layer_types.0: Input should be 'full_attention'"),
    "streams": (layers(hc_mult=4), "transformer_layer_config.hc_mult: Input should be None"),
    "heads turned in part": (layers(partial_rotary_factor=0.5), "partial_rotary_factor: Input should be greater"),
    "pairs that are neighbours": (layers(rope_is_neox_style=False), "rope_is_neox_style: Input should be True"),
    "another target's": (layers(vocab_size=130), "drafter has vocab_size 130, the target has 128"),
    "a chain too long": ({"speculators_config": proposing(17)}, "a chain of 17 drafts"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_a_line(tmp_path: Path, case: str) -> None:
    keys, message = REFUSED[case]
    refused(write_speculators(tmp_path, **keys), message)


TENSORS: dict[str, tuple[dict[str, np.ndarray | None], str]] = {
    "no map": ({"d2t": None}, "draft_vocab_size is 43, but no tensor d2t"),
    "a map of ids where offsets belong": ({"d2t": ABSOLUTE}, "d2t does not give 43 different ids below 128"),
    "a map below the vocabulary": ({"d2t": -ABSOLUTE}, "d2t does not give 43 different ids below 128"),
    "maps that contradict": ({"t2d": np.ones(tiny.VOCAB, bool)}, "d2t and t2d name different tokens"),
    "a head for other tokens": (
        {"lm_head.weight": np.ones((tiny.VOCAB, tiny.HIDDEN), np.float32)},
        "lm_head.weight has shape [128, 48], the config asks for [43, 48]",
    ),
    "a norm of taps that no key says": (
        {"input_norm.weight": np.ones(3 * tiny.HIDDEN, np.float32)},
        "unknown tensor 'input_norm.weight'",
    ),
    "P-EAGLE's own": (
        {"mask_hidden": np.ones((1, 1, 3 * tiny.HIDDEN), np.float32)},
        "unknown tensor 'mask_hidden'",
    ),
    "no fc": ({"fc.weight": None}, "fc.weight is missing, and takes taps of 48 each"),
    "an fc for no number of taps": ({"fc.weight": np.ones((48, 100), np.float32)}, "fc.weight is [48, 100], and takes"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_are_refused(tmp_path: Path, case: str) -> None:
    tensors, message = TENSORS[case]
    folder = write_speculators(tmp_path)
    change(folder, **tensors)
    refused(folder, message)


def test_a_norm_that_is_announced_and_missing_is_not_taken_for_ones(tmp_path: Path) -> None:
    folder = write_speculators(tmp_path, speculators_spec(tap_norm="whole"))
    change(folder, **{"input_norm.weight": None})
    refused(folder, "missing tensor 'input_norm.weight'")


def refused(folder: Path, message: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        open_drafter(folder, tiny.target_spec())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
