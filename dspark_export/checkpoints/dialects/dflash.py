"""z-lab's DFlash drafters (`DFlashDraftModel`), which SpecForge trains too: a backbone and `dflash_config`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.checkpoint import DrafterCheckpoint
from dspark_export.checkpoints.config_file import UniformConfig, parse_config, read_json
from dspark_export.checkpoints.dialects.base import DrafterDialect
from dspark_export.checkpoints.dialects.drafter_directory import (
    check_last_tap,
    checked_drafter,
    peek_config,
    recorded_target,
)
from dspark_export.checkpoints.recognition import check_directory
from dspark_export.checkpoints.safetensors_source import SafetensorsSource
from dspark_export.checkpoints.spec import ConfidenceSpec, DrafterSpec, MarkovSpec, TargetSpec
from dspark_export.checkpoints.tensors import Weights, plain_entries

NESTED, ARCHITECTURE, PROJECTOR = "dflash_config", "DFlashDraftModel", "dflash"
MASK_FILE = "mask_embedding.pt"


class BlockConfig(BaseModel):
    """`dflash_config`. A key that it does not have may change what is computed, so none is passed over."""

    model_config = ConfigDict(extra="forbid")

    mask_token_id: NonNegativeInt
    target_layer_ids: list[NonNegativeInt] = Field(min_length=1)
    block_size: PositiveInt | None = None
    shift_label: bool = False
    projector_type: Literal["dflash"] | None = None
    causal: Literal[False] = False
    use_swa: Literal[False] = False
    swa_window_size: int | None = None
    attention_sink_bias: Literal[False] | None = None


class DFlashConfig(UniformConfig):
    """config.json: Qwen3's keys and `dflash_config`."""

    num_key_value_heads: PositiveInt
    num_target_layers: PositiveInt | None = None
    block_size: PositiveInt | None = None
    markov_rank: int | None = None
    enable_confidence_head: bool | None = None
    dflash_config: BlockConfig

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        nested = self.dflash_config
        if self.markov_rank is not None or self.enable_confidence_head is not None:
            raise ValueError(
                "has DSpark's keys (markov_rank, enable_confidence_head), which a DFlashDraftModel has not"
            )
        if nested.mask_token_id >= self.vocab_size:
            raise ValueError(f"mask_token_id {nested.mask_token_id} lies outside the vocabulary of {self.vocab_size}")
        if nested.target_layer_ids != sorted(set(nested.target_layer_ids)):
            raise ValueError("target_layer_ids must be a strictly rising list of layers")
        if not self.width:
            raise ValueError("missing key 'block_size'")
        if self.width != (nested.block_size or self.width):
            raise ValueError(f"block_size is both {self.width} and {nested.block_size}")
        return self

    @property
    def width(self) -> int:
        """The block's positions, by the key at either place."""
        return self.block_size or self.dflash_config.block_size or 0


class DFlashDialect(DrafterDialect):
    """A directory whose config.json has `dflash_config` without a projector of another kind, and safetensors."""

    name = "DFlash"

    def matches(self, path: Path) -> bool:
        config = peek_config(path)
        nested = config.get(NESTED)
        plain = isinstance(nested, dict) and nested.get("projector_type") in (None, PROJECTOR)
        return "speculators_model_type" not in config and plain and config.get("architectures") == [ARCHITECTURE]

    def read(self, path: Path, target: TargetSpec) -> DrafterCheckpoint:
        check_directory(path)
        if (path / MASK_FILE).exists():
            raise CheckpointError(
                f"{path}: its mask token has an embedding of its own ({MASK_FILE}), which is not read",
                hint="take a drafter that uses the target's",
            )
        file = path / "config.json"
        data = read_json(file)
        config = parse_config(DFlashConfig, file, data)
        source = SafetensorsSource(path)
        entries = plain_entries(path, source.shapes)
        spec = _spec(file, config, target, frozenset(entries))
        return checked_drafter(path, spec, Weights(path, source, entries), target, recorded_target(file, data))


def _spec(file: Path, config: DFlashConfig, target: TargetSpec, tensors: frozenset[str]) -> DrafterSpec:
    """Taps are counted as ours; the anchor is given, but where labels were shifted so that it predicts."""
    nested, depth = config.dflash_config, target.shape.num_layers
    check_last_tap(file, "target_layer_ids", nested.target_layer_ids[-1], nested.target_layer_ids[-1], depth)
    return DrafterSpec(
        shape=config.decoder_shape(file, qk_norm=True),
        vocab_size=config.vocab_size,
        block_size=config.width,
        mask_token_id=nested.mask_token_id,
        target_layer_ids=tuple(nested.target_layer_ids),
        num_target_layers=config.num_target_layers or depth,
        markov=MarkovSpec("none", 0),
        confidence=ConfidenceSpec(enabled=False, with_markov=False),
        own_embedding="embed_tokens.weight" in tensors,
        own_head="lm_head.weight" in tensors,
        anchor="predicts" if nested.shift_label else "given",
    )
