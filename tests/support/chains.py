"""Tiny drafters that draft one token after the other, as their tools write them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from dspark_export.checkpoints import ConfidenceSpec, DrafterSpec, MarkovSpec
from dspark_export.checkpoints.dialects.next_n import NAMES
from dspark_export.checkpoints.expected import drafter_optional_tensors, drafter_tensors
from dspark_export.checkpoints.spec import ChainSpec
from tests.support import tiny

LENGTH = 5
"""Tokens a round."""
TAPS = (-1, 1, 2)
"""What enters layers 0, 2 and 3: a list that begins with 1 is read with a warning."""
KEPT = tuple(range(1, tiny.VOCAB, 3))


def spec(kind: str = "eagle3", *, layers: int = 1, **chain: Any) -> DrafterSpec:
    """One for the tiny target, with the fields `chain` of its `ChainSpec`; embedding and head are the target's."""
    depth = chain.get("stages", 1) if kind == "mtp" else layers
    return DrafterSpec(
        shape=tiny.shape(depth, qk_norm=False),
        vocab_size=tiny.VOCAB,
        block_size=LENGTH,
        mask_token_id=0,
        target_layer_ids=(tiny.LAYERS,) if kind == "mtp" else TAPS,
        num_target_layers=tiny.LAYERS,
        markov=MarkovSpec("none", 0),
        confidence=ConfidenceSpec(False, False),
        own_embedding=False,
        own_head=False,
        method=kind,
        chain=ChainSpec(kind=kind, **chain),
    )


def with_tables(spec: DrafterSpec) -> DrafterSpec:
    """The same with an embedding and a head of its own."""
    return replace(spec, own_embedding=True, own_head=True)


def tensors_of(spec: DrafterSpec, seed: int = 3) -> dict[str, np.ndarray]:
    """Random tensors by canonical name, tables included where they are its own."""
    tables = drafter_optional_tensors(spec)
    own = {"embed_tokens.weight": spec.own_embedding, "lm_head.weight": spec.own_head}
    return tiny.random_tensors(drafter_tensors(spec) | {name: tables[name] for name in own if own[name]}, seed)


def write_eagle3(folder: Path, keys: Mapping[str, Any] | None = None, *, reduced: bool = True, seed: int = 3) -> Path:
    """The plain layout, with `keys` in its config (None: without): a head of its own, the target's embedding."""
    drafter = replace(spec(), own_head=True, draft_vocabulary=KEPT if reduced else ())
    tensors = {name.replace("layers.0.", "midlayer."): value for name, value in tensors_of(drafter, seed).items()}
    config = tiny.decoder_config(drafter.shape) | {
        "architectures": ["LlamaForCausalLMEagle3"],
        "model_type": "llama",
        "draft_vocab_size": drafter.draft_vocab_size,
        "eagle_config": {"eagle_aux_hidden_state_layer_ids": [tap + 1 for tap in TAPS]},
    }
    if reduced:
        flags = np.zeros(tiny.VOCAB, bool)
        flags[list(KEPT)] = True
        tensors |= {"d2t": np.array(KEPT) - np.arange(len(KEPT)), "t2d": flags}
    return _write(folder, {**config, **(keys or {})}, tensors)


def write_mtp(folder: Path, keys: Mapping[str, Any] | None = None, *, stages: int = 1, seed: int = 3) -> Path:
    """DeepSeek-V3's names behind the target's last layer, with `keys` in its config (None: without)."""
    drafter = spec("mtp", stages=stages, state_normed=True)
    config = tiny.decoder_config(drafter.shape) | {
        "architectures": ["LlamaForCausalLMNextN"],
        "model_type": "llama",
        "num_hidden_layers": tiny.LAYERS,
        "num_nextn_predict_layers": stages,
    }
    tensors = {_next_n(name): value for name, value in tensors_of(drafter, seed).items()}
    return _write(folder, {**config, **(keys or {})}, tensors)


def _next_n(canonical: str) -> str:
    for theirs, ours in NAMES.items():
        for stage in range(3):
            if canonical == ours.format(stage):
                return f"model.layers.{tiny.LAYERS + stage}.{theirs}"
    _, stage, rest = canonical.split(".", 2)
    return f"model.layers.{tiny.LAYERS + int(stage)}.{rest}"


def _write(folder: Path, config: dict[str, Any], tensors: dict[str, np.ndarray]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    said = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(said))
    save_file(tensors, folder / "model.safetensors")
    return folder
