"""Drafters from their directories: those that this training wrote, and DSpark drafters of the same layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlamaForCausalLM

from training.drafter import Drafter, Settings
from training.kinds import KINDS
from training.problems import TrainingError

BORROWED = {"d2t", "t2d", "lm_head.weight"}


def open_drafter(folder: Path, model: LlamaForCausalLM, depth: int = 0) -> Drafter:
    """The drafter in `folder`, float32, to draft `depth` tokens a round (0: as many as its config says, or 5)."""
    tensors = tensors_of(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = KINDS[kind_of(config)]
    vocabulary = tensors["d2t"] + torch.arange(len(tensors["d2t"])) if "d2t" in tensors else torch.zeros(0).long()
    drafter = kind(model.config, vocabulary, settings_of(config, depth))
    drafter.load_state_dict(own_weights(drafter, tensors))
    drafter.borrow(model)
    return drafter


def begin_from(drafter: Drafter, folder: Path) -> None:
    """Take the weights in `folder` that `drafter` has too, and no others: heads may be left behind."""
    tensors = tensors_of(folder)
    missing = drafter.load_state_dict(own_weights(drafter, tensors), strict=False).missing_keys
    if missing:
        raise TrainingError(f"{folder}: no {missing[0]}", hint="begin with a drafter of the same form")


def vocabulary_of(folder: Path) -> Tensor:
    """[V_d] int64: ids that the drafter in `folder` can draft."""
    offsets = tensors_of(folder)["d2t"]
    return offsets + torch.arange(len(offsets))


def tensors_of(folder: Path) -> dict[str, Tensor]:
    """What its model.safetensors holds."""
    if not (folder / "model.safetensors").is_file() or not (folder / "config.json").is_file():
        raise TrainingError(f"{folder}: no config.json and model.safetensors", hint="give a drafter's directory")
    return load_file(folder / "model.safetensors")


def own_weights(drafter: Drafter, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """By the module's own names, without what the target lends."""
    stored = {drafter.stored_name(name): name for name in drafter.state_dict()}
    return {stored[name]: weight.float() for name, weight in tensors.items() if name in stored}


def settings_of(config: dict[str, Any], depth: int) -> Settings:
    """What a config.json says of a drafter's form."""
    layers = config.get("transformer_layer_config", {}).get("num_hidden_layers", Settings.layers)
    return Settings(
        depth=depth or config.get("block_size", Settings.depth),
        rank=config.get("markov_rank", Settings.rank),
        layers=layers,
        mask_token=config.get("mask_token_id", Settings.mask_token),
    )


def kind_of(config: dict[str, Any]) -> str:
    """Which of `KINDS` a config.json describes."""
    if "speculators_model_type" in config:
        return "dspark" if config.get("markov_rank", 0) else "dflash"
    return "mtp" if config.get("num_nextn_predict_layers") else "eagle3"
