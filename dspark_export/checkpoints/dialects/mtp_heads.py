"""MTP heads by the class that they belong to: MiMo's, with Qwen2's layer, and Qwen3-Next's naming of Qwen3's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.checkpoint import DrafterCheckpoint
from dspark_export.checkpoints.config_file import DecoderConfig, UniformConfig, parse_config
from dspark_export.checkpoints.dialects.chain_facts import MTP_LENGTH, chain_facts, renamed_entries
from dspark_export.checkpoints.dialects.drafter_directory import OpenedDrafter, checked_drafter
from dspark_export.checkpoints.dialects.mtp_names import qwen_name, stage_name
from dspark_export.checkpoints.seams import get_family
from dspark_export.checkpoints.spec import ChainSpec, DecoderShape, DrafterSpec
from dspark_export.checkpoints.tensors import Array, Entry, Weights, plain_entries

MIMO = ChainSpec(kind="mtp", state_normed=True, embedding_first=False)
"""Its maker's modeling_mimo.py: [state; embedding], and layers hand on what is behind their final norm."""
QWEN = ChainSpec(kind="mtp", state_normed=True)
"""[embedding; state], and likewise."""
TABLES = ("embed_tokens.weight", "lm_head.weight")


class MimoConfig(DecoderConfig):
    """The target's config.json, which describes the head's layer too."""

    num_key_value_heads: PositiveInt
    num_nextn_predict_layers: Literal[1]
    use_sliding_window: Literal[False] = False

    @model_validator(mode="before")
    @classmethod
    def _left_out(cls, keys: Any) -> Any:
        return {**get_family("qwen2").defaults, **keys} if isinstance(keys, dict) else keys


class SharedTables(BaseModel):
    """`mtp_config`."""

    model_config = ConfigDict(extra="forbid")

    share_lm_head: bool = True


class QwenConfig(UniformConfig):
    """`Qwen3_5MTPDraftModel`: Qwen3's keys. Its class reads nothing of rotation but `rope_theta`."""

    num_key_value_heads: PositiveInt
    num_hidden_layers: Literal[1]
    attn_output_gate: Literal[False] = False
    rope_scaling: None = None
    mtp_config: SharedTables = SharedTables()


def read_mimo(opened: OpenedDrafter) -> DrafterCheckpoint:
    """The head of the MiMo target in the directory, which shares its tables. Raises `CheckpointError`."""
    config = parse_config(MimoConfig, opened.file, opened.data)
    one = config.model_copy(update={"num_hidden_layers": 1})
    plain = plain_entries(opened.path, opened.source.shapes)
    heads = {name: entry for name, entry in plain.items() if name.startswith("mtp_layers.")}
    if not heads:
        raise CheckpointError(
            f"{opened.path}: announces an MTP head (num_nextn_predict_layers), and holds no tensor of it",
            hint="quantised and converted copies often leave it out: take the model as its maker saved it",
        )
    entries = renamed_entries(opened.path, heads, stage_name)
    shape = one.decoder_shape(opened.file, qkv_bias=True)
    return _head(opened, entries, MIMO, shape, config.vocab_size, config.num_hidden_layers)


def read_qwen(opened: OpenedDrafter) -> DrafterCheckpoint:
    """A head with plain layers in Qwen3-Next's naming; norms hold their gains less one. Raises `CheckpointError`."""
    config = parse_config(QwenConfig, opened.file, opened.data)
    entries = renamed_entries(opened.path, plain_entries(opened.path, opened.source.shapes), qwen_name)
    gains = {
        name: replace(entry, transform=_one_plus) if name.endswith("norm.weight") else entry
        for name, entry in entries.items()
    }
    shape = config.decoder_shape(opened.file, qk_norm=True)
    return _head(opened, gains, QWEN, shape, config.vocab_size, opened.target.shape.num_layers)


def _one_plus(gain: Array) -> Array:
    return gain + 1


def _head(
    opened: OpenedDrafter, entries: dict[str, Entry], chain: ChainSpec, shape: DecoderShape, vocab: int, depth: int
) -> DrafterCheckpoint:
    """One over the state behind the final norm of a target of `depth` layers."""
    spec = DrafterSpec(
        shape=shape,
        vocab_size=vocab,
        target_layer_ids=(depth,),
        num_target_layers=depth,
        own_embedding=TABLES[0] in entries,
        own_head=TABLES[1] in entries,
        **chain_facts(chain, MTP_LENGTH),
    )
    return checked_drafter(opened.path, spec, Weights(opened.path, opened.source, entries), opened.target)
