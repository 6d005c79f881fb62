"""Drafters of blocks that the speculators library saved: dspark and dflash."""

from __future__ import annotations

import numpy as np

from dspark_export.checkpoints.checkpoint import DrafterCheckpoint
from dspark_export.checkpoints.config_file import parse_config
from dspark_export.checkpoints.dialects.draft_ids import D2T, T2D, read_draft_ids
from dspark_export.checkpoints.dialects.drafter_directory import OpenedDrafter, check_last_tap, checked_drafter
from dspark_export.checkpoints.dialects.speculators_config import CONFIGS, KEY, DFlashConfig
from dspark_export.checkpoints.reduction import in_rising_order
from dspark_export.checkpoints.spec import DrafterSpec
from dspark_export.checkpoints.tensors import Weights, plain_entries


def read_blocks(opened: OpenedDrafter) -> DrafterCheckpoint:
    """The drafter. Raises `CheckpointError` naming the key or tensor that is wrong."""
    config = parse_config(CONFIGS[opened.data[KEY]], opened.file, opened.data)
    path, source = opened.path, opened.source
    entries = plain_entries(path, [name for name in source.shapes if name not in (D2T, T2D)])
    ids = read_draft_ids(path, source, config.transformer_layer_config.vocab_size, config.draft_vocab_size)
    spec = _spec(opened, config, frozenset(entries), tuple(np.sort(ids).tolist()))
    weights = Weights(path, source, in_rising_order(entries, ids))
    return checked_drafter(path, spec, weights, opened.target, config.speculators_config.trained_for)


def _spec(
    opened: OpenedDrafter, config: DFlashConfig, tensors: frozenset[str], vocabulary: tuple[int, ...]
) -> DrafterSpec:
    layers, depth = config.transformer_layer_config, opened.target.shape.num_layers
    taps = tuple(layer - 1 for layer in config.aux_hidden_state_layer_ids)  # theirs counts what enters a layer
    check_last_tap(opened.file, "aux_hidden_state_layer_ids", taps[-1] + 1, taps[-1], depth)
    windows = layers.windows(opened.file)
    return DrafterSpec(
        shape=layers.decoder_shape(opened.file, windows, qk_norm=True),
        vocab_size=layers.vocab_size,
        block_size=config.block_size,
        mask_token_id=config.mask_token_id,
        target_layer_ids=taps,
        num_target_layers=depth,
        markov=config.markov,
        confidence=config.confidence,
        own_embedding="embed_tokens.weight" in tensors,
        own_head="lm_head.weight" in tensors,
        anchor=config.anchor(opened.file),
        block_mask=config.block_mask(windows),
        draft_vocabulary=vocabulary,
    )
