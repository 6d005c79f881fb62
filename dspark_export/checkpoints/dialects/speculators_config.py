"""config.json of the speculators library's drafters: what is read of it, and how it is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.config_file import DecoderConfig, decoder_keys
from dspark_export.checkpoints.spec import AnchorMode, BlockMask, ConfidenceSpec, DrafterSpec, MarkovSpec
from dspark_export.checkpoints.trained_for import TrainedFor

KEY = "speculators_model_type"
UNUSED_POSITIONS = 32768
QWEN3_WINDOW_LAYERS = 28
"""`max_window_layers` of transformers' Qwen3Config, for configs that leave it out."""


class ProposalConfig(BaseModel):
    """An entry of `proposal_methods`."""

    model_config = ConfigDict(extra="ignore")

    speculative_tokens: PositiveInt | None = None


class VerifierConfig(BaseModel):
    """`speculators_config.verifier`, the target."""

    model_config = ConfigDict(extra="ignore")

    name_or_path: str | None = None
    architectures: list[str] | None = None


class AlgorithmConfig(BaseModel):
    """`speculators_config`."""

    model_config = ConfigDict(extra="ignore")

    proposal_methods: list[ProposalConfig] = []
    verifier: VerifierConfig | None = None

    @property
    def trained_for(self) -> TrainedFor:
        """The target that it records."""
        verifier = self.verifier or VerifierConfig()
        return TrainedFor(verifier.name_or_path or "", tuple(verifier.architectures or ()))


class LayerConfig(DecoderConfig):
    """`transformer_layer_config`: its layers have norms of heads, whatever `model_type` says."""

    attention_bias: Literal[False] = False
    hc_mult: Literal[None] = None
    max_position_embeddings: PositiveInt = UNUSED_POSITIONS
    max_window_layers: NonNegativeInt = QWEN3_WINDOW_LAYERS
    hidden_act: Literal["silu"] = "silu"
    tie_word_embeddings: bool = False


class DFlashConfig(BaseModel):
    """config.json of a backbone alone; what is left out means what the library's class says."""

    model_config = ConfigDict(extra="ignore")

    speculators_model_type: Literal["dflash", "dspark"]
    speculators_config: AlgorithmConfig = Field(default_factory=AlgorithmConfig)
    transformer_layer_config: LayerConfig
    block_size: PositiveInt = 8
    aux_hidden_state_layer_ids: list[NonNegativeInt] = Field(min_length=1)
    mask_token_id: NonNegativeInt
    sample_from_anchor: bool | None = None
    sliding_window_non_causal: bool = False
    draft_vocab_size: PositiveInt = 32000

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
    def markov(self) -> MarkovSpec:
        """Its Markov head."""
        return MarkovSpec("none", 0)

    @property
    def confidence(self) -> ConfidenceSpec:
        """Its confidence head."""
        return ConfidenceSpec(enabled=False, with_markov=False)

    def block_mask(self, windows: Sequence[int]) -> BlockMask:
        """Layers that slide are causal inside the block, unless `sliding_window_non_causal`."""
        return "causal_if_sliding" if any(windows) and not self.sliding_window_non_causal else "full"

    def anchor(self, file: Path) -> AnchorMode:
        """`sample_from_anchor`, and the number of tokens that a block proposes: they must agree, one must be there."""
        known: dict[int | None, AnchorMode] = {self.block_size: "predicts", self.block_size - 1: "given"}
        said: dict[bool | None, AnchorMode] = {True: "predicts", False: "given"}
        by_key, by_width = said.get(self.sample_from_anchor), known.get(self.proposed)
        if by_key and by_width and by_key != by_width:
            raise CheckpointError(
                f"{file}: sample_from_anchor is {str(self.sample_from_anchor).lower()}, which contradicts blocks of "
                f"{self.block_size} that propose {self.proposed} tokens",
                hint="correct whichever is wrong: with the anchor's position predicting, as many as the block has",
            )
        if not by_key and not by_width:
            raise CheckpointError(
                f"{file}: says neither sample_from_anchor nor how many tokens a block proposes",
                hint='add "sample_from_anchor": true if the first position of a block predicts, else false',
            )
        return by_key or by_width or "predicts"


class DSparkConfig(DFlashConfig):
    """The same with heads."""

    markov_rank: NonNegativeInt = 256
    markov_head_type: Literal["vanilla", "gated", "rnn"] = "vanilla"
    enable_confidence_head: bool = True
    confidence_head_with_markov: bool = True

    @property
    def markov(self) -> MarkovSpec:
        return MarkovSpec(self.markov_head_type if self.markov_rank else "none", self.markov_rank)

    @property
    def confidence(self) -> ConfidenceSpec:
        enabled = self.enable_confidence_head
        return ConfidenceSpec(enabled, enabled and self.confidence_head_with_markov and self.markov_rank > 0)


CONFIGS: dict[str, type[DFlashConfig]] = {"dspark": DSparkConfig, "dflash": DFlashConfig}
"""By `speculators_model_type`."""


def speculators_config(spec: DrafterSpec, trained_for: TrainedFor) -> dict[str, Any]:
    """The config.json that reads back to both. Raises `CheckpointError` for what it cannot say."""
    predicts, heads = spec.anchor == "predicts", _head_keys(spec)
    proposal = {"proposal_type": "greedy", "speculative_tokens": spec.draft_length}
    algorithm: dict[str, Any] = {"algorithm": "dspark" if heads else "dflash", "proposal_methods": [proposal]}
    if trained_for:
        verifier = {"name_or_path": trained_for.name or None, "architectures": list(trained_for.architectures)}
        algorithm["verifier"] = verifier
    return {
        KEY: "dspark" if heads else "dflash",
        "architectures": ["DSparkDraftModel" if heads else "DFlashDraftModel"],
        "speculators_config": algorithm,
        "transformer_layer_config": _layer_keys(spec),
        "block_size": spec.block_size,
        "aux_hidden_state_layer_ids": [tap + 1 for tap in spec.target_layer_ids],
        "mask_token_id": spec.mask_token_id,
        "sample_from_anchor": predicts,
        "sliding_window_non_causal": spec.block_mask == "full" and any(layer.window for layer in spec.shape.layers),
        "draft_vocab_size": spec.draft_vocab_size,
        **heads,
    }


def _head_keys(spec: DrafterSpec) -> dict[str, Any]:
    """Keys of the heads; none for a backbone alone whose anchor predicts nothing, which the library calls dflash.

    With an anchor that predicts its own class of that name warns, and dspark of rank 0 is the same.
    """
    if spec.anchor == "given" and not spec.markov.rank and not spec.confidence.enabled:
        return {}
    return {
        "markov_rank": spec.markov.rank,
        "markov_head_type": spec.markov.kind if spec.markov.rank else "vanilla",
        "enable_confidence_head": spec.confidence.enabled,
        "confidence_head_with_markov": spec.confidence.with_markov,
    }


def _layer_keys(spec: DrafterSpec) -> dict[str, Any]:
    """`transformer_layer_config`. Raises `CheckpointError` for layers that it cannot say."""
    windows = {layer.window for layer in spec.shape.layers if layer.window}
    if len(windows) > 1 or spec.block_mask == "causal":
        raise CheckpointError(
            "windows of several widths, and full layers that are causal inside the block, cannot be written in the "
            "layout of the speculators library",
            hint="choose another dialect",
        )
    without = replace(spec.shape, layers=tuple(replace(layer, window=0) for layer in spec.shape.layers))
    return decoder_keys(without) | {
        "model_type": "qwen3",
        "vocab_size": spec.vocab_size,
        "max_position_embeddings": UNUSED_POSITIONS,
        "layer_types": ["sliding_attention" if layer.window else "full_attention" for layer in spec.shape.layers],
        "use_sliding_window": bool(windows),
        "sliding_window": next(iter(windows), None),
    }
