"""Eagle3 drafters that the speculators library saved."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.checkpoint import DrafterCheckpoint
from dspark_export.checkpoints.config_file import parse_config
from dspark_export.checkpoints.dialects.chain_facts import EAGLE3_LENGTH, chain_facts, renamed_entries
from dspark_export.checkpoints.dialects.draft_ids import D2T, T2D, read_draft_ids
from dspark_export.checkpoints.dialects.drafter_directory import OpenedDrafter, check_last_tap, checked_drafter
from dspark_export.checkpoints.dialects.speculators_chain_config import Eagle3Config
from dspark_export.checkpoints.reduction import in_rising_order
from dspark_export.checkpoints.spec import ChainSpec, DrafterSpec
from dspark_export.checkpoints.tensors import Entry, Weights, plain_entries

TAPS_KEY, RESIDUAL_KEY = "eagle_aux_hidden_state_layer_ids", "norm_before_residual"
MIDDLE, FIRST = "midlayer.", "layers.0."
"""The layer in older files, and in newer ones."""
UNSAID_TAPS = 3


def read_eagle3(opened: OpenedDrafter) -> DrafterCheckpoint:
    """The drafter. Raises `CheckpointError` naming the key or tensor that is wrong."""
    config = parse_config(Eagle3Config, opened.file, opened.data)
    path, source = opened.path, opened.source
    plain = plain_entries(path, [name for name in source.shapes if name not in (D2T, T2D)])
    entries = renamed_entries(path, plain, _canonical)
    ids = read_draft_ids(path, source, config.transformer_layer_config.vocab_size, config.draft_vocab_size)
    taps = _taps(opened, config, entries)
    spec = _spec(opened, config, entries, draft_vocabulary=tuple(np.sort(ids).tolist()), target_layer_ids=taps)
    weights = Weights(path, source, in_rising_order(entries, ids))
    return checked_drafter(path, spec, weights, opened.target, config.speculators_config.trained_for)


def _canonical(name: str) -> str:
    return FIRST + name.removeprefix(MIDDLE) if name.startswith(MIDDLE) else name


def _spec(opened: OpenedDrafter, config: Eagle3Config, entries: dict[str, Entry], **found: Any) -> DrafterSpec:
    layers = config.transformer_layer_config
    chain = ChainSpec(
        kind="eagle3",
        residual_normed=_residual_normed(opened, config),
        state_normed=config.norm_output,
        tap_norm="whole" if config.norm_before_fc else "each" if config.fc_norm else "none",
    )
    return DrafterSpec(
        shape=layers.shape(opened.file, layers.num_hidden_layers),
        vocab_size=layers.vocab_size,
        num_target_layers=opened.target.shape.num_layers,
        own_embedding="embed_tokens.weight" in entries,
        own_head="lm_head.weight" in entries,
        **chain_facts(chain, config.proposed(EAGLE3_LENGTH)),
        **found,
    )


def _residual_normed(opened: OpenedDrafter, config: Eagle3Config) -> bool:
    """Programs differ on what the key's absence means; in a file that the library dated it is the library's false."""
    if config.norm_before_residual is None and not opened.data.get("speculators_version"):
        raise CheckpointError(
            f"{opened.file}: missing key '{RESIDUAL_KEY}', and programs differ on what that means",
            hint=f'add "{RESIDUAL_KEY}": true or false, whichever it was trained with',
        )
    return bool(config.norm_before_residual)


def _taps(opened: OpenedDrafter, config: Eagle3Config, entries: dict[str, Entry]) -> tuple[int, ...]:
    """Layers as we count them: what leaves them, where the library counts what enters. Raises `CheckpointError`."""
    said, depth = config.eagle_aux_hidden_state_layer_ids, opened.target.shape.num_layers
    given = said or _unsaid(opened, depth)
    count = _count(opened, config.transformer_layer_config.hidden_size, entries)
    if count != len(given):
        raise CheckpointError(
            f"{opened.path}: fc.weight takes {count} taps, and {TAPS_KEY} is {said or 'not there, which means three'}",
            hint=f"put the {count} layers that it was trained with into {TAPS_KEY}",
        )
    if said is None:
        message = f"{opened.file}: {TAPS_KEY} is not there: the library's own are taken, {given}"
        warnings.warn(message, UserWarning, stacklevel=5)
    check_last_tap(opened.file, TAPS_KEY, given[-1], given[-1] - 1, depth)
    return tuple(layer - 1 for layer in given)


def _unsaid(opened: OpenedDrafter, depth: int) -> list[int]:
    """What the library takes for a target of `depth` layers where the config names none. Raises `CheckpointError`."""
    usual = [2, depth // 2, depth - UNSAID_TAPS]
    if usual != sorted(set(usual)):
        raise CheckpointError(
            f"{opened.file}: missing key '{TAPS_KEY}', and a target of {depth} layers has no usual ones",
            hint="add the layers that it was trained with",
        )
    return usual


def _count(opened: OpenedDrafter, hidden: int, entries: dict[str, Entry]) -> int:
    """How many taps fc takes. Raises `CheckpointError`."""
    shape = opened.source.shapes[entries["fc.weight"].source_name] if "fc.weight" in entries else (0, 0)
    if len(shape) != 2 or not shape[1] or shape[1] % hidden:
        raise CheckpointError(
            f"{opened.path}: fc.weight is {list(shape) if any(shape) else 'missing'}, and takes taps of {hidden} each",
            hint="the checkpoint does not hold what its config announces; fetch or convert it again",
        )
    return shape[1] // hidden
