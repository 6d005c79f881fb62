"""Drafters that draft one token after the other and must be refused, each with what the error's line says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.support import chains, tiny
from tests.support.command_line import Case, Place

IDS = "eagle_aux_hidden_state_layer_ids"
Tensors = dict[str, np.ndarray]


def eagle3(fragment: str, keys: dict[str, Any] | None = None, edit: Callable[[Tensors], Any] | None = None) -> Case:
    """A plain Eagle3 drafter with these keys, its tensors edited."""
    return _case(fragment, chains.write_eagle3, keys, edit)


def mtp(fragment: str, keys: dict[str, Any] | None = None, edit: Callable[[Tensors], Any] | None = None) -> Case:
    """A head with DeepSeek-V3's names, likewise."""
    return _case(fragment, chains.write_mtp, keys, edit)


def _case(fragment: str, write: Any, keys: dict[str, Any] | None, edit: Callable[[Tensors], Any] | None) -> Case:
    def prepare(place: Place) -> list[str]:
        folder: Path = write(place.root / "drafter", keys)
        file = folder / "model.safetensors"
        if edit is not None:
            tensors = load_file(file)
            edit(tensors)
            save_file(tensors, file)
        return place.build(drafter=folder)

    return Case(prepare, fragment)


def _absolute(tensors: Tensors) -> None:
    tensors["d2t"] = np.array(chains.KEPT)


def _renamed(tensors: Tensors) -> None:
    """As of the layer before."""
    for name in list(tensors):
        tensors[name.replace(f"layers.{tiny.LAYERS}", f"layers.{tiny.LAYERS - 1}")] = tensors.pop(name)


def _taps(*ids: int) -> dict[str, Any]:
    return {"eagle_config": {IDS: list(ids)}}


CHAINS = {
    "eagle3: fewer ids than fc takes": eagle3(f"{IDS} names 2 layers, and fc.weight takes 3", _taps(2, 3)),
    "eagle3: the last layer tapped": eagle3(f"{IDS} is [2, 3, 4], which is not a rising list", _taps(2, 3, 4)),
    "eagle3: ids that fall": eagle3(f"{IDS} is [3, 2, 1], which is not a rising list", _taps(3, 2, 1)),
    "eagle3: ids said twice": eagle3(f"{IDS} is both [0, 1, 2] and, in eagle_config, [0, 2, 3]", {IDS: [0, 1, 2]}),
    "eagle3: no taps": eagle3("use_aux_hidden_state: Input should be True", {"use_aux_hidden_state": False}),
    "eagle3: norm_output, which means two things": eagle3("norm_output: Input should be False", {"norm_output": True}),
    "eagle3: parallel drafting": eagle3("parallel_drafting: Input should be False", {"parallel_drafting": True}),
    "eagle3: a mask token": eagle3("mask_token_id: Input should be None", {"mask_token_id": 3}),
    "eagle3: taps normed twice": eagle3(
        "norm_before_fc and fc_norm: taps are normed as one or each", {"norm_before_fc": True, "fc_norm": True}
    ),
    "eagle3: a norm announced that is not there": eagle3(
        "missing tensor 'input_norm.weight'", {"norm_before_fc": True}
    ),
    "eagle3: two layers": eagle3("num_hidden_layers: Input should be 1", {"num_hidden_layers": 2}),
    "eagle3: another target's width": eagle3("target_hidden_size is 64, hidden_size 48", {"target_hidden_size": 64}),
    "eagle3: its head is not there": eagle3(
        "draft_vocab_size is 43, but no tensor lm_head.weight", edit=lambda tensors: tensors.pop("lm_head.weight")
    ),
    "eagle3: d2t is not there": eagle3(
        "draft_vocab_size is 43, but no tensor d2t", edit=lambda tensors: tensors.pop("d2t")
    ),
    "eagle3: d2t holds ids": eagle3("d2t does not give 43 different ids below 128", edit=_absolute),
    "eagle3: d2t and t2d differ": eagle3(
        "d2t and t2d name different tokens", edit=lambda tensors: tensors.update(t2d=~tensors["t2d"])
    ),
    "eagle3: more drafted than there is": eagle3(
        "draft_vocab_size 200 is more than the vocabulary of 128", {"draft_vocab_size": 200}
    ),
    "eagle3: head norms that no key says": eagle3(
        "unknown tensor 'layers.0.self_attn.q_norm.weight'",
        edit=lambda tensors: tensors.update({"midlayer.self_attn.q_norm.weight": np.ones(16, np.float32)}),
    ),
    "mtp: its layers were left out": mtp(
        f"num_nextn_predict_layers is 1 behind {tiny.LAYERS} layers, and the file has layers [{tiny.LAYERS - 1}]",
        edit=_renamed,
    ),
    "mtp: more stages announced": mtp("num_nextn_predict_layers is 2 behind 4 layers", {"num_nextn_predict_layers": 2}),
    "mtp: behind another target": mtp(
        "num_nextn_predict_layers is 1 behind 5 layers, and the file has layers [4]", {"num_hidden_layers": 5}
    ),
    "mtp: no number of stages": mtp("missing key 'num_nextn_predict_layers'", {"num_nextn_predict_layers": None}),
    "eagle3: to another layout": Case(
        lambda place: [
            *("convert", str(chains.write_eagle3(place.root / "drafter")), "--target", str(place.target)),
            *("--to", "speculators", "--output", str(place.root / "converted")),
        ],
        "drafts one token after the other, which no layout that is written says",
    ),
}
