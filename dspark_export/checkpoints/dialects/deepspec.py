"""DeepSpec's drafters (`Qwen3DSparkModel`): config.json plus flat tensor names."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import NonNegativeInt, PositiveInt, field_validator, model_validator
from safetensors.numpy import save_file

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.checkpoint import DrafterCheckpoint
from dspark_export.checkpoints.config_file import UniformConfig, decoder_keys, parse_config, read_json, write_json
from dspark_export.checkpoints.dialects.base import DrafterDialect
from dspark_export.checkpoints.dialects.drafter_directory import checked_drafter
from dspark_export.checkpoints.recognition import check_directory
from dspark_export.checkpoints.safetensors_source import SafetensorsSource
from dspark_export.checkpoints.spec import ConfidenceSpec, DrafterSpec, MarkovSpec, TargetSpec
from dspark_export.checkpoints.tensors import Weights, plain_entries

ARCHITECTURES = ("Qwen3DSparkModel",)
UNUSED_POSITIONS = 32768
"""A drafter goes as far as its target; the key has to be there all the same."""


class DeepSpecConfig(UniformConfig):
    """Keys that DeepSpec adds to the copy of the target's config.

    It writes `markov_head_type` only with a Markov head (`markov_rank` above 0), and `confidence_head_with_markov` only
    with a confidence head: its DFlash drafters have neither key. What the copy says of windows and of heads that are
    turned in part describes the target: only `layer_types` tells windows, and Qwen3's class turns whole heads.
    """

    num_key_value_heads: PositiveInt
    num_target_layers: PositiveInt
    block_size: PositiveInt
    mask_token_id: NonNegativeInt
    target_layer_ids: list[int]
    markov_rank: NonNegativeInt
    markov_head_type: Literal["vanilla", "gated", "rnn"] | None = None
    enable_confidence_head: bool
    confidence_head_with_markov: bool | None = None
    layer_types: list[Literal["full_attention"]]
    use_sliding_window: bool = False  # type: ignore[assignment]  # the target's
    partial_rotary_factor: float = 1.0

    @field_validator("rope_parameters", "rope_scaling", mode="before")
    @classmethod
    def _whole_heads(cls, rope: Any) -> Any:
        """transformers' Qwen3RotaryEmbedding asks for a part of the head where rotation is scaled, and only there."""
        if not isinstance(rope, dict) or rope.get("rope_type", rope.get("type", "default")) != "default":
            return rope
        return {key: value for key, value in rope.items() if key != "partial_rotary_factor"}

    @model_validator(mode="after")
    def _turned_whole(self) -> Self:
        rope = self.rope_scaling or self.rope_parameters
        if self.partial_rotary_factor != 1 and rope is not None and rope.rope_type != "default":
            raise ValueError(
                f"partial_rotary_factor is {self.partial_rotary_factor}, with rope_type '{rope.rope_type}'"
            )
        return self

    @field_validator("target_layer_ids")
    @classmethod
    def _taps(cls, taps: list[int]) -> list[int]:
        if not taps or taps != sorted(set(taps)) or taps[0] < -1:
            raise ValueError("target_layer_ids must be a non-empty, strictly rising list of layers from -1 up")
        return taps

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.mask_token_id >= self.vocab_size:
            raise ValueError(f"mask_token_id {self.mask_token_id} lies outside the vocabulary of {self.vocab_size}")
        if self.target_layer_ids[-1] >= self.num_target_layers - 1:
            raise ValueError(
                f"target_layer_ids taps layer {self.target_layer_ids[-1]}, the target's final layer is "
                f"{self.num_target_layers - 1} and cannot be tapped (its hidden state is returned after the norm)"
            )
        if len(self.layer_types) != self.num_hidden_layers:
            raise ValueError(
                f"layer_types names {len(self.layer_types)} layers, num_hidden_layers is {self.num_hidden_layers}"
            )
        if self.markov_rank and self.markov_head_type is None:
            raise ValueError("missing key 'markov_head_type'")
        if self.enable_confidence_head and self.confidence_head_with_markov is None:
            raise ValueError("missing key 'confidence_head_with_markov'")
        if self.confidence_head_with_markov and self.enable_confidence_head and not self.markov_rank:
            raise ValueError("confidence_head_with_markov needs markov_rank above 0")
        return self


class DeepSpecDialect(DrafterDialect):
    """A directory with config.json (`Qwen3DSparkModel`) and safetensors."""

    name = "DeepSpec"

    def matches(self, path: Path) -> bool:
        return path.is_dir()

    def read(self, path: Path, target: TargetSpec) -> DrafterCheckpoint:
        check_directory(path)
        data = read_json(path / "config.json")  # a missing config is the clearer complaint, so it comes first
        source = SafetensorsSource(path)
        entries = plain_entries(path, source.shapes)
        spec = read_deepspec_spec(path / "config.json", data, frozenset(entries))
        return checked_drafter(path, spec, Weights(path, source, entries), target)

    def write(self, checkpoint: DrafterCheckpoint, folder: Path) -> None:
        spec, weights = checkpoint.spec, checkpoint.weights
        if spec.draft_vocabulary or spec.anchor != "predicts" or spec.block_mask != "full":
            raise CheckpointError(
                "DeepSpec's layout has no draft vocabulary, and its blocks predict from the anchor on and see all of "
                "themselves",
                hint="choose another layout: --to speculators or --to gguf",
            )
        write_json(folder / "config.json", deepspec_config(spec))
        tensors = {name: weights.as_stored(name) for name in weights}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def deepspec_config(spec: DrafterSpec) -> dict[str, Any]:
    """The config.json that reads back to `spec`, with the keys that DeepSpec writes."""
    config = decoder_keys(spec.shape) | {
        "architectures": list(ARCHITECTURES),
        "model_type": "qwen3",
        "vocab_size": spec.vocab_size,
        "max_position_embeddings": UNUSED_POSITIONS,
        "layer_types": ["full_attention"] * spec.shape.num_layers,
        "num_target_layers": spec.num_target_layers,
        "block_size": spec.block_size,
        "mask_token_id": spec.mask_token_id,
        "target_layer_ids": list(spec.target_layer_ids),
        "markov_rank": spec.markov.rank,
        "enable_confidence_head": spec.confidence.enabled,
    }
    if spec.markov.rank:
        config["markov_head_type"] = spec.markov.kind
    if spec.confidence.enabled:
        config["confidence_head_with_markov"] = spec.confidence.with_markov
    return config


def read_deepspec_spec(path: Path, data: dict[str, Any], tensor_names: frozenset[str]) -> DrafterSpec:
    """Normalise `data`, read from `path`. Raises `CheckpointError` for another architecture or a bad key."""
    _check_architecture(path, data)
    config = parse_config(DeepSpecConfig, path, data)
    kind = config.markov_head_type if config.markov_rank else None
    return DrafterSpec(
        shape=config.decoder_shape(path, qk_norm=True),
        vocab_size=config.vocab_size,
        block_size=config.block_size,
        mask_token_id=config.mask_token_id,
        target_layer_ids=tuple(config.target_layer_ids),
        num_target_layers=config.num_target_layers,
        markov=MarkovSpec(kind or "none", config.markov_rank),
        confidence=ConfidenceSpec(
            config.enable_confidence_head,
            bool(config.enable_confidence_head and config.confidence_head_with_markov),
        ),
        own_embedding="embed_tokens.weight" in tensor_names,
        own_head="lm_head.weight" in tensor_names,
    )


def _check_architecture(path: Path, data: dict[str, Any]) -> None:
    found = data.get("architectures")
    if not isinstance(found, list) or not found or found[0] not in ARCHITECTURES:
        raise CheckpointError(
            f"{path}: architectures is {found!r:.80}{_model_type(data)}, not a drafter that this version reads",
            hint=f"supported: {', '.join(ARCHITECTURES)} (DeepSpec)",
        )


def _model_type(data: dict[str, Any]) -> str:
    """What else a config without architectures calls itself."""
    found = data.get("model_type")
    return f" and model_type {found!r:.40}" if found and not data.get("architectures") else ""
