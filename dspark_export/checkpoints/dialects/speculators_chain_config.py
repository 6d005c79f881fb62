"""config.json of the speculators library's chains, eagle3 and mtp: what is read of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator

from dspark_export.checkpoints.config_file import DecoderConfig
from dspark_export.checkpoints.dialects.speculators_config import AlgorithmConfig
from dspark_export.checkpoints.seams import get_family
from dspark_export.checkpoints.spec import DecoderShape

OF_EVERY_FILE = frozenset(
    {"architectures", "auto_map", "bos_token_id", "chunk_size_feed_forward", "dtype", "embed_requires_grad"}
    | {"eos_token_id", "id2label", "is_encoder_decoder", "label2id", "model_type", "name_or_path", "_name_or_path"}
    | {"output_attentions", "output_hidden_states", "pad_token_id", "problem_type", "return_dict", "torch_dtype"}
    | {"has_no_defaults_at_init", "speculators_version", "tie_word_embeddings", "transformers_version", "use_cache"}
)
"""Keys that transformers' PreTrainedConfig and the library write, and that say nothing of what a drafter computes."""


class ChainLayers(DecoderConfig):
    """`transformer_layer_config`: layers of the library's class for `model_type`, and what that reads of it."""

    model_type: Literal["llama", "qwen3"] = "qwen3"
    hc_mult: Literal[None] = None
    use_sliding_window: Literal[False] = False
    layer_types: list[Literal["full_attention"]] | None = None  # type: ignore[assignment]  # fewer of them

    @model_validator(mode="before")
    @classmethod
    def _left_out(cls, keys: Any) -> Any:
        """The library writes what differs from the class's defaults."""
        kind = keys.get("model_type", "qwen3") if isinstance(keys, dict) else ""
        return {**get_family(kind).defaults, **keys} if kind in ("llama", "qwen3") else keys

    def shape(self, file: Path, layers: int) -> DecoderShape:
        """So many layers. Raises `CheckpointError` where heads do not divide or rope has no base."""
        biased = self.attention_bias
        one = self.model_copy(update={"num_hidden_layers": layers})
        return one.decoder_shape(file, qk_norm=self.model_type == "qwen3", qkv_bias=biased, output_bias=biased)


class ChainConfig(BaseModel):
    """What eagle3 and mtp have in common. A key that is not known may change what is computed: none is passed over."""

    model_config = ConfigDict(extra="forbid")

    speculators_model_type: str
    speculators_config: AlgorithmConfig = Field(default_factory=AlgorithmConfig)
    transformer_layer_config: ChainLayers

    @model_validator(mode="before")
    @classmethod
    def _claims(cls, keys: Any) -> Any:
        if not isinstance(keys, dict):
            return keys
        empty = {key for key, value in keys.items() if value is None and key not in cls.model_fields}
        return {key: value for key, value in keys.items() if key not in OF_EVERY_FILE | empty}

    def proposed(self, usual: int) -> int:
        """Tokens that the config says are proposed, or as many as `usual`."""
        said = (method.speculative_tokens for method in self.speculators_config.proposal_methods)
        return next(said, None) or usual


class Eagle3Config(ChainConfig):
    """Eagle3; what is left out means what the library's class says, but for `norm_before_residual`: see the reader."""

    draft_vocab_size: PositiveInt = 32000
    norm_before_residual: bool | None = None
    norm_before_fc: bool = False
    fc_norm: bool = False
    norm_output: bool = False
    eagle_aux_hidden_state_layer_ids: list[NonNegativeInt] | None = None
    target_hidden_size: PositiveInt | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        layers, taps = self.transformer_layer_config, self.eagle_aux_hidden_state_layer_ids
        if self.norm_before_fc and self.fc_norm:
            raise ValueError("norm_before_fc and fc_norm are both true, and only one of them can be")
        if taps is not None and (not taps or taps != sorted(set(taps))):
            raise ValueError("eagle_aux_hidden_state_layer_ids must be a strictly rising list of layers")
        if self.draft_vocab_size > layers.vocab_size:
            raise ValueError(
                f"draft_vocab_size {self.draft_vocab_size} is more than the vocabulary of {layers.vocab_size}"
            )
        if self.target_hidden_size not in (None, layers.hidden_size):
            raise ValueError(
                f"target_hidden_size is {self.target_hidden_size} and hidden_size {layers.hidden_size}: a drafter of "
                "another width than its target's, which is not followed"
            )
        return self


class MtpConfig(ChainConfig):
    """An MTP head of one layer, which the library calls the verifier's own `transformer_layer_config`."""

    num_nextn_predict_layers: Literal[1] = 1
