"""Eagle3 drafters of the speculators library that are refused, by the key or the tensor that says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import open_drafter
from tests.support import chains, tiny
from tests.support.chain_layouts import proposing, speculators_spec, write_speculators
from tests.unit.checkpoints.test_speculators_eagle3 import TAPS, change


def layers(**keys: Any) -> dict[str, Any]:
    return {
        "transformer_layer_config": tiny.decoder_config(tiny.shape(1, qk_norm=False)) | {"model_type": "llama"} | keys
    }


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
