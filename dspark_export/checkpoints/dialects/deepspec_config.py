"""config.json of DeepSpec's drafters, by their architecture: the target's config with keys of the drafter."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import NonNegativeInt, PositiveInt, field_validator, model_validator

from dspark_export.checkpoints.dialects.chain_facts import chain_facts
from dspark_export.checkpoints.dialects.deepspec_layers import DeepSpecLayers, Gemma4Layers, Qwen3Layers
from dspark_export.checkpoints.spec import ChainSpec, ConfidenceSpec, MarkovSpec

EAGLE3_TAPS = 5


class BlockKeys(DeepSpecLayers):
    """Keys of a drafter of blocks.

    DeepSpec writes `markov_head_type` only with a Markov head (`markov_rank` above 0), and
    `confidence_head_with_markov` only with a confidence head: its DFlash drafters have neither key.
    """

    block_size: PositiveInt
    mask_token_id: NonNegativeInt
    markov_rank: NonNegativeInt
    markov_head_type: Literal["vanilla", "gated", "rnn"] | None = None
    enable_confidence_head: bool
    confidence_head_with_markov: bool | None = None

    @model_validator(mode="after")
    def _heads_of_blocks(self) -> Self:
        if self.mask_token_id >= self.vocab_size:
            raise ValueError(f"mask_token_id {self.mask_token_id} lies outside the vocabulary of {self.vocab_size}")
        if self.markov_rank and self.markov_head_type is None:
            raise ValueError("missing key 'markov_head_type'")
        if self.enable_confidence_head and self.confidence_head_with_markov is None:
            raise ValueError("missing key 'confidence_head_with_markov'")
        if self.confidence_head_with_markov and self.enable_confidence_head and not self.markov_rank:
            raise ValueError("confidence_head_with_markov needs markov_rank above 0")
        return self

    def how(self, path: Path) -> dict[str, Any]:
        """What of `DrafterSpec` these keys say, and those of the layers."""
        enabled = self.enable_confidence_head
        kind = self.markov_head_type if self.markov_rank else None
        return self.facts() | {
            "shape": self.drafter_shape(path),
            "block_size": self.block_size,
            "mask_token_id": self.mask_token_id,
            "markov": MarkovSpec(kind or "none", self.markov_rank),
            "confidence": ConfidenceSpec(enabled, bool(enabled and self.confidence_head_with_markov)),
        }


class Eagle3Keys(DeepSpecLayers):
    """Keys of an Eagle3 drafter: one layer, which is all that DeepSpec's evaluation runs, and five taps."""

    ttt_length: PositiveInt

    @field_validator("num_hidden_layers")
    @classmethod
    def _one(cls, layers: int) -> int:
        if layers != 1:
            raise ValueError("an Eagle3 drafter of DeepSpec has one layer")
        return layers

    @field_validator("target_layer_ids")
    @classmethod
    def _five(cls, taps: list[int]) -> list[int]:
        if len(taps) != EAGLE3_TAPS or taps[0] < 0:
            raise ValueError(f"target_layer_ids is {taps}, and DeepSpec's Eagle3 taps {EAGLE3_TAPS} layers from 0 up")
        return taps

    def how(self, path: Path) -> dict[str, Any]:
        """The same for these; what attention's output is added to is not normed, nor is the state."""
        chain = chain_facts(ChainSpec(kind="eagle3"), self.ttt_length)
        return self.facts() | chain | {"shape": self.drafter_shape(path)}


class Qwen3DSparkConfig(Qwen3Layers, BlockKeys):
    """`Qwen3DSparkModel`."""


class Gemma4DSparkConfig(Gemma4Layers, BlockKeys):
    """`Gemma4DSparkModel`."""


class Qwen3Eagle3Config(Qwen3Layers, Eagle3Keys):
    """`Qwen3Eagle3Model`, which DeepSpec's evaluation calls `Eagle3DraftModel` as well."""


class Gemma4Eagle3Config(Gemma4Layers, Eagle3Keys):
    """`Gemma4Eagle3Model`."""


CONFIGS: dict[str, type[BlockKeys] | type[Eagle3Keys]] = {
    "Qwen3DSparkModel": Qwen3DSparkConfig,
    "Gemma4DSparkModel": Gemma4DSparkConfig,
    "Qwen3Eagle3Model": Qwen3Eagle3Config,
    "Gemma4Eagle3Model": Gemma4Eagle3Config,
    "Eagle3DraftModel": Qwen3Eagle3Config,
}
"""By the first of `architectures`; `model_type` is the target's."""
