"""Drafters saved by the speculators library (`speculators_model_type: dspark`), reduced vocabularies included."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator
from safetensors.numpy import save_file

from dspark_engines.arrays import Ints
from dspark_engines.bundle.vocabulary import is_vocabulary
from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.checkpoint import DrafterCheckpoint
from dspark_export.checkpoints.config_file import UniformConfig, decoder_keys, parse_config, read_json, write_json
from dspark_export.checkpoints.dialects.base import DrafterDialect
from dspark_export.checkpoints.dialects.drafter_directory import checked_drafter, peek_config
from dspark_export.checkpoints.recognition import check_directory
from dspark_export.checkpoints.reduction import in_rising_order
from dspark_export.checkpoints.safetensors_source import SafetensorsSource
from dspark_export.checkpoints.spec import AnchorMode, ConfidenceSpec, DrafterSpec, MarkovSpec, TargetSpec
from dspark_export.checkpoints.tensors import Weights, plain_entries

KEY = "speculators_model_type"
D2T, T2D = "d2t", "t2d"
"""[Vd] int64: what is added to a place to get its id; [V] bool: which ids those are."""
UNUSED_POSITIONS = 32768


class ProposalConfig(BaseModel):
    """An entry of `proposal_methods`."""

    model_config = ConfigDict(extra="ignore")

    speculative_tokens: PositiveInt | None = None


class AlgorithmConfig(BaseModel):
    """`speculators_config`."""

    model_config = ConfigDict(extra="ignore")

    proposal_methods: list[ProposalConfig] = []


class LayerConfig(UniformConfig):
    """`transformer_layer_config`: its layers have norms of heads, whatever `model_type` says."""

    layer_types: list[Literal["full_attention"]] | None = None
    hc_mult: Literal[None] = None
    max_position_embeddings: PositiveInt = UNUSED_POSITIONS
    hidden_act: Literal["silu"] = "silu"
    tie_word_embeddings: bool = False


class SpeculatorsConfig(BaseModel):
    """config.json; what is left out means what the library's class says."""

    model_config = ConfigDict(extra="ignore")

    speculators_model_type: Literal["dspark"]
    speculators_config: AlgorithmConfig = Field(default_factory=AlgorithmConfig)
    transformer_layer_config: LayerConfig
    block_size: PositiveInt = 8
    aux_hidden_state_layer_ids: list[NonNegativeInt] = Field(min_length=1)
    mask_token_id: NonNegativeInt
    sample_from_anchor: bool | None = None
    draft_vocab_size: PositiveInt = 32000
    markov_rank: NonNegativeInt = 256
    markov_head_type: Literal["vanilla", "gated", "rnn"] = "vanilla"
    enable_confidence_head: bool = True
    confidence_head_with_markov: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        vocabulary, taps = self.transformer_layer_config.vocab_size, self.aux_hidden_state_layer_ids
        if self.mask_token_id >= vocabulary:
            raise ValueError(f"mask_token_id {self.mask_token_id} lies outside the vocabulary of {vocabulary}")
        if taps != sorted(set(taps)):
            raise ValueError("aux_hidden_state_layer_ids must be a strictly rising list of layers")
        if self.draft_vocab_size > vocabulary:
            raise ValueError(f"draft_vocab_size {self.draft_vocab_size} is more than the vocabulary of {vocabulary}")
        return self

    @property
    def proposed(self) -> int | None:
        """Tokens that the config says a block proposes."""
        return next((method.speculative_tokens for method in self.speculators_config.proposal_methods), None)

    @property
    def with_markov(self) -> bool:
        """Whether the confidence head sees the token before."""
        return self.enable_confidence_head and self.confidence_head_with_markov and self.markov_rank > 0


class SpeculatorsDialect(DrafterDialect):
    """A directory whose config.json says `speculators_model_type`, and safetensors."""

    name = "speculators"

    def matches(self, path: Path) -> bool:
        return KEY in peek_config(path)

    def read(self, path: Path, target: TargetSpec) -> DrafterCheckpoint:
        check_directory(path)
        file = path / "config.json"
        config = parse_config(SpeculatorsConfig, file, _recognised(file))
        source = SafetensorsSource(path, integers=frozenset((D2T, T2D)))
        entries = plain_entries(path, [name for name in source.shapes if name not in (D2T, T2D)])
        ids = _vocabulary(path, source, config)
        spec = _spec(file, config, target, frozenset(entries), tuple(np.sort(ids).tolist()))
        return checked_drafter(path, spec, Weights(path, source, in_rising_order(entries, ids)), target)

    def write(self, checkpoint: DrafterCheckpoint, folder: Path) -> None:
        spec = checkpoint.spec
        tensors: dict[str, Any] = {name: checkpoint.weights.as_stored(name) for name in checkpoint.weights}
        if spec.draft_vocabulary:
            ids = np.array(spec.draft_vocabulary, np.int64)
            flags = np.zeros(spec.vocab_size, bool)
            flags[ids] = True
            tensors |= {D2T: ids - np.arange(len(ids)), T2D: flags}
        write_json(folder / "config.json", speculators_config(spec))
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def speculators_config(spec: DrafterSpec) -> dict[str, Any]:
    """The config.json that reads back to `spec`."""
    layers = decoder_keys(spec.shape) | {
        "model_type": "qwen3",
        "vocab_size": spec.vocab_size,
        "max_position_embeddings": UNUSED_POSITIONS,
        "layer_types": ["full_attention"] * spec.shape.num_layers,
    }
    predicts = spec.anchor == "predicts"
    proposal = {"proposal_type": "greedy", "speculative_tokens": spec.block_size - (0 if predicts else 1)}
    return {
        KEY: "dspark",
        "architectures": ["DSparkDraftModel"],
        "speculators_config": {"algorithm": "dspark", "proposal_methods": [proposal]},
        "transformer_layer_config": layers,
        "block_size": spec.block_size,
        "aux_hidden_state_layer_ids": [tap + 1 for tap in spec.target_layer_ids],
        "mask_token_id": spec.mask_token_id,
        "sample_from_anchor": predicts,
        "draft_vocab_size": spec.draft_vocab_size,
        "markov_rank": spec.markov.rank,
        "markov_head_type": spec.markov.kind if spec.markov.rank else "vanilla",
        "enable_confidence_head": spec.confidence.enabled,
        "confidence_head_with_markov": spec.confidence.with_markov,
    }


def _recognised(file: Path) -> dict[str, Any]:
    """The config. Raises `CheckpointError` naming a kind of speculator that is not read."""
    data = read_json(file)
    if data.get(KEY) != "dspark":
        raise CheckpointError(
            f"{file}: {KEY} is {data.get(KEY)!r:.80}, not a drafter that this version reads", hint="supported: dspark"
        )
    return data


def _spec(
    file: Path, config: SpeculatorsConfig, target: TargetSpec, tensors: frozenset[str], vocabulary: tuple[int, ...]
) -> DrafterSpec:
    layers, depth = config.transformer_layer_config, target.shape.num_layers
    taps = tuple(layer - 1 for layer in config.aux_hidden_state_layer_ids)  # theirs counts what enters a layer
    if taps[-1] >= depth - 1:
        raise CheckpointError(
            f"{file}: aux_hidden_state_layer_ids taps {taps[-1] + 1}, which is not below the target's last layer",
            hint=f"the target has {depth} layers: this drafter was trained for another",
        )
    kind = config.markov_head_type if config.markov_rank else "none"
    return DrafterSpec(
        shape=layers.decoder_shape(file, qk_norm=True),
        vocab_size=layers.vocab_size,
        block_size=config.block_size,
        mask_token_id=config.mask_token_id,
        target_layer_ids=taps,
        num_target_layers=depth,
        markov=MarkovSpec(kind, config.markov_rank),
        confidence=ConfidenceSpec(config.enable_confidence_head, config.with_markov),
        own_embedding="embed_tokens.weight" in tensors,
        own_head="lm_head.weight" in tensors,
        anchor=_anchor(file, config),
        draft_vocabulary=vocabulary,
    )


def _anchor(file: Path, config: SpeculatorsConfig) -> AnchorMode:
    """`sample_from_anchor`, and the number of tokens that a block proposes: they must agree, and one must be there."""
    known: dict[int | None, AnchorMode] = {config.block_size: "predicts", config.block_size - 1: "given"}
    said: dict[bool | None, AnchorMode] = {True: "predicts", False: "given"}
    by_key, by_width = said.get(config.sample_from_anchor), known.get(config.proposed)
    if by_key and by_width and by_key != by_width:
        raise CheckpointError(
            f"{file}: sample_from_anchor is {str(config.sample_from_anchor).lower()}, which contradicts blocks of "
            f"{config.block_size} that propose {config.proposed} tokens",
            hint="correct whichever is wrong: with the anchor's position predicting, as many as the block has",
        )
    if not by_key and not by_width:
        raise CheckpointError(
            f"{file}: says neither sample_from_anchor nor how many tokens a block proposes",
            hint='add "sample_from_anchor": true if the first position of a block predicts, else false',
        )
    return by_key or by_width or "predicts"


def _vocabulary(path: Path, source: SafetensorsSource, config: SpeculatorsConfig) -> Ints:
    """The ids [Vd] that can be drafted, in the order of the rows; none where these are all.

    Raises `CheckpointError` where d2t is no choice of them.
    """
    size, drafted = config.transformer_layer_config.vocab_size, config.draft_vocab_size
    if drafted == size:
        return np.zeros(0, np.int64)
    if D2T not in source.shapes:
        raise CheckpointError(f"{path}: draft_vocab_size is {drafted}, but no tensor d2t", hint="save it again")
    offsets = source.load_integers(D2T)
    if offsets.shape != (drafted,) or not is_vocabulary(np.sort(offsets + np.arange(drafted)), size):
        raise CheckpointError(
            f"{path}: d2t does not give {drafted} different ids below {size}", hint="save the drafter again"
        )
    ids = offsets + np.arange(drafted)
    if T2D in source.shapes and np.flatnonzero(source.load_integers(T2D)).tolist() != np.sort(ids).tolist():
        raise CheckpointError(f"{path}: d2t and t2d name different tokens", hint="save the drafter again")
    return ids
