"""Drafters saved by the speculators library, dspark and dflash, reduced vocabularies included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.checkpoint import DrafterCheckpoint
from dspark_export.checkpoints.config_file import parse_config, read_json, write_json
from dspark_export.checkpoints.dialects.base import DrafterDialect
from dspark_export.checkpoints.dialects.draft_ids import D2T, T2D, read_draft_ids
from dspark_export.checkpoints.dialects.drafter_directory import check_last_tap, checked_drafter, peek_config
from dspark_export.checkpoints.dialects.speculators_config import CONFIGS, KEY, DFlashConfig, speculators_config
from dspark_export.checkpoints.recognition import check_directory
from dspark_export.checkpoints.reduction import in_rising_order
from dspark_export.checkpoints.safetensors_source import SafetensorsSource
from dspark_export.checkpoints.spec import DrafterSpec, TargetSpec
from dspark_export.checkpoints.tensors import Weights, plain_entries


class SpeculatorsDialect(DrafterDialect):
    """A directory whose config.json says `speculators_model_type`, and safetensors."""

    name = "speculators"

    def matches(self, path: Path) -> bool:
        return KEY in peek_config(path)

    def read(self, path: Path, target: TargetSpec) -> DrafterCheckpoint:
        check_directory(path)
        file = path / "config.json"
        data = _recognised(file)
        config = parse_config(CONFIGS[data[KEY]], file, data)
        source = SafetensorsSource(path, integers=frozenset((D2T, T2D)))
        entries = plain_entries(path, [name for name in source.shapes if name not in (D2T, T2D)])
        ids = read_draft_ids(path, source, config.transformer_layer_config.vocab_size, config.draft_vocab_size)
        spec = _spec(file, config, target, frozenset(entries), tuple(np.sort(ids).tolist()))
        weights = Weights(path, source, in_rising_order(entries, ids))
        return checked_drafter(path, spec, weights, target, config.trained_for)

    def write(self, checkpoint: DrafterCheckpoint, folder: Path) -> None:
        spec = checkpoint.spec
        tensors: dict[str, Any] = {name: checkpoint.weights.as_stored(name) for name in checkpoint.weights}
        if spec.draft_vocabulary:
            ids = np.array(spec.draft_vocabulary, np.int64)
            flags = np.zeros(spec.vocab_size, bool)
            flags[ids] = True
            tensors |= {D2T: ids - np.arange(len(ids)), T2D: flags}
        write_json(folder / "config.json", speculators_config(spec, checkpoint.trained_for))
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _recognised(file: Path) -> dict[str, Any]:
    """The config. Raises `CheckpointError` naming a kind of speculator that is not read."""
    data = read_json(file)
    if str(data.get(KEY)) not in CONFIGS:
        raise CheckpointError(
            f"{file}: {KEY} is {data.get(KEY)!r:.80}, not a drafter that this version reads",
            hint=f"supported: {', '.join(CONFIGS)}",
        )
    return data


def _spec(
    file: Path, config: DFlashConfig, target: TargetSpec, tensors: frozenset[str], vocabulary: tuple[int, ...]
) -> DrafterSpec:
    layers, depth = config.transformer_layer_config, target.shape.num_layers
    taps = tuple(layer - 1 for layer in config.aux_hidden_state_layer_ids)  # theirs counts what enters a layer
    check_last_tap(file, "aux_hidden_state_layer_ids", taps[-1] + 1, taps[-1], depth)
    windows = layers.windows(file)
    return DrafterSpec(
        shape=layers.decoder_shape(file, windows, qk_norm=True),
        vocab_size=layers.vocab_size,
        block_size=config.block_size,
        mask_token_id=config.mask_token_id,
        target_layer_ids=taps,
        num_target_layers=depth,
        markov=config.markov,
        confidence=config.confidence,
        own_embedding="embed_tokens.weight" in tensors,
        own_head="lm_head.weight" in tensors,
        anchor=config.anchor(file),
        block_mask=config.block_mask(windows),
        draft_vocabulary=vocabulary,
    )
