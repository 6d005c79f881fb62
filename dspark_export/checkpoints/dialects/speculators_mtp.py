"""MTP heads that the speculators library saved, which it cuts out of a model or trains."""

from __future__ import annotations

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.checkpoint import DrafterCheckpoint
from dspark_export.checkpoints.config_file import parse_config
from dspark_export.checkpoints.dialects.chain_facts import MTP_LENGTH, chain_facts, renamed_entries
from dspark_export.checkpoints.dialects.drafter_directory import OpenedDrafter, checked_drafter
from dspark_export.checkpoints.dialects.mtp_names import stage_name
from dspark_export.checkpoints.dialects.speculators_chain_config import MtpConfig
from dspark_export.checkpoints.spec import ChainSpec, DrafterSpec
from dspark_export.checkpoints.tensors import Weights, plain_entries

LAYERS_KEY = "transformer_layer_config"
CHAIN = ChainSpec(kind="mtp", state_normed=True)
"""Embedding first, and the state is what the final norm gives."""
UNUSED = "verifier_lm_head.weight"
"""A table that the library's class has for its other drafters, and saves."""


def read_mtp(opened: OpenedDrafter) -> DrafterCheckpoint:
    """The head. Raises `CheckpointError` naming the key or tensor that is wrong."""
    _check_layers(opened)
    config = parse_config(MtpConfig, opened.file, opened.data)
    path, depth = opened.path, opened.target.shape.num_layers
    used = [name for name in opened.source.shapes if name != UNUSED]
    entries = renamed_entries(path, plain_entries(path, used), stage_name)
    layers = config.transformer_layer_config
    spec = DrafterSpec(
        shape=layers.shape(opened.file, CHAIN.stages),
        vocab_size=layers.vocab_size,
        target_layer_ids=(depth,),
        num_target_layers=depth,
        own_embedding="embed_tokens.weight" in entries,
        own_head="lm_head.weight" in entries,
        **chain_facts(CHAIN, config.proposed(MTP_LENGTH)),
    )
    weights, recorded = Weights(path, opened.source, entries), config.speculators_config.trained_for
    return checked_drafter(path, spec, weights, opened.target, recorded)


def _check_layers(opened: OpenedDrafter) -> None:
    """Raises `CheckpointError` for layers that are not Qwen3's: the library has classes for them and for Qwen3.5's."""
    layers = opened.data.get(LAYERS_KEY)
    kind = layers.get("model_type") if isinstance(layers, dict) else None
    if kind != "qwen3":
        raise CheckpointError(
            f"{opened.file}: {LAYERS_KEY}.model_type is {kind!r:.40}, an MTP head whose layers are not followed",
            hint="read are those of Qwen3's layers; Qwen3-Next's and Qwen3.5's have gated attention",
        )
