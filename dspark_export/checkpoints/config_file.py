"""Reading a checkpoint's JSON config: outside data, so pydantic checks it and one line says what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from dspark_calibration import first_problem
from dspark_engines import text_file
from dspark_engines.errors import CheckpointError, TextError
from dspark_export.checkpoints.spec import DecoderShape, LayerSpec, RopeSpec

MOST_LAYERS = 10_000
"""No model has as many; what a config announces beyond is refused before a list of it is made."""
Model = TypeVar("Model", bound=BaseModel)

SCALING_KEYS: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}


class RopeConfig(BaseModel):
    """`rope_scaling` (older) or `rope_parameters` (newer) of a Hugging Face config."""

    model_config = ConfigDict(extra="ignore")

    rope_type: Literal["default", "linear", "llama3"] = Field(
        default="default",
        validation_alias=AliasChoices("rope_type", "type"),  # `type` in the oldest configs
    )
    rope_theta: PositiveFloat | None = None
    partial_rotary_factor: float = Field(default=1.0, ge=1.0, le=1.0)
    factor: PositiveFloat = 1.0
    low_freq_factor: PositiveFloat = 1.0
    high_freq_factor: PositiveFloat = 4.0
    original_max_position_embeddings: PositiveInt = 8192

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = [key for key in SCALING_KEYS[self.rope_type] if key not in self.model_fields_set]
        if missing:
            raise ValueError(f"rope_type '{self.rope_type}' needs the key '{missing[0]}'")
        return self


class GenerationConfig(BaseModel):
    """What generation_config.json and config.json may both say: which tokens end a sequence."""

    model_config = ConfigDict(extra="ignore")

    eos_token_id: NonNegativeInt | list[NonNegativeInt] | None = None

    def eos_ids(self) -> tuple[int, ...]:
        """End-of-sequence ids as a tuple; empty when the config names none."""
        eos = self.eos_token_id
        return () if eos is None else (eos,) if isinstance(eos, int) else tuple(eos)


class DecoderConfig(GenerationConfig):
    """The keys that Llama, Qwen3 and DeepSpec's drafters share, under Hugging Face's names."""

    hidden_size: PositiveInt
    intermediate_size: PositiveInt
    num_hidden_layers: int = Field(ge=1, le=MOST_LAYERS)
    num_attention_heads: PositiveInt
    num_key_value_heads: PositiveInt | None = None
    head_dim: PositiveInt | None = None
    vocab_size: PositiveInt
    max_position_embeddings: PositiveInt
    rms_norm_eps: PositiveFloat
    rope_theta: PositiveFloat | None = None
    rope_parameters: RopeConfig | None = None
    rope_scaling: RopeConfig | None = None
    hidden_act: Literal["silu"]
    attention_bias: Literal[False] = False
    mlp_bias: Literal[False] = False
    use_sliding_window: Literal[False] = False
    layer_types: list[Literal["full_attention"]] | None = None
    partial_rotary_factor: float = Field(default=1.0, ge=1.0, le=1.0)
    bos_token_id: NonNegativeInt | None = None
    tie_word_embeddings: bool = Field(default=False)

    def decoder_shape(self, path: Path, *, qk_norm: bool) -> DecoderShape:
        """The normalised shape. Raises `CheckpointError` when heads do not divide or rope has no base."""
        kv_heads = self.num_key_value_heads or self.num_attention_heads
        if self.num_attention_heads % kv_heads:
            raise CheckpointError(
                f"{path}: num_attention_heads {self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads {kv_heads}",
                hint="grouped-query attention needs whole groups; check the config against the weights",
            )
        layer = LayerSpec(
            num_heads=self.num_attention_heads,
            num_kv_heads=kv_heads,
            head_dim=self.head_dim or self.hidden_size // self.num_attention_heads,
            intermediate_size=self.intermediate_size,
            rope=self._rope(path),
            qk_norm=qk_norm,
        )
        layers = (layer,) * self.num_hidden_layers
        return DecoderShape(hidden_size=self.hidden_size, rms_norm_eps=self.rms_norm_eps, layers=layers)

    def _rope(self, path: Path) -> RopeSpec:
        rope = self.rope_scaling or self.rope_parameters or RopeConfig()  # transformers lets the older key win
        theta = rope.rope_theta or self.rope_theta
        if theta is None:
            raise CheckpointError(
                f"{path}: missing key 'rope_theta'", hint="add it to the config (or to rope_parameters)"
            )
        return RopeSpec(
            theta=theta,
            kind=rope.rope_type,
            factor=rope.factor,
            low_freq_factor=rope.low_freq_factor,
            high_freq_factor=rope.high_freq_factor,
            original_max_positions=rope.original_max_position_embeddings,
        )


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`. Raises `CheckpointError` when there is none."""
    try:
        data = text_file.read_json(path)
    except FileNotFoundError:
        raise CheckpointError(
            f"{path}: no such file", hint="point at a Hugging Face style directory, with config.json in it"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path}: not readable: {error.strerror}", hint="fix its permissions") from None
    except TextError as error:
        raise CheckpointError(str(error), hint=f"fetch the file again, or {error.hint}") from None
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: holds no JSON object", hint="fetch the file again")
    return data


def write_json(path: Path, data: dict[str, Any]) -> None:
    """A JSON object as a config.json is written."""
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", "utf-8")


def decoder_keys(shape: DecoderShape) -> dict[str, Any]:
    """The keys of `DecoderConfig` that say what `shape` does: what `decoder_shape` reads back.

    Raises `CheckpointError` where they cannot say it.
    """
    layer = shape.usual_layer
    if layer is None or layer != replace(layer, window=0, scale=None, softcap=0.0):
        raise CheckpointError(
            "layers that differ, or have a window, a scale or a softcap, cannot be written in this dialect",
            hint="choose another dialect",
        )
    return {
        "hidden_size": shape.hidden_size,
        "intermediate_size": layer.intermediate_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": layer.num_heads,
        "num_key_value_heads": layer.num_kv_heads,
        "head_dim": layer.head_dim,
        "rms_norm_eps": shape.rms_norm_eps,
        "rope_parameters": _rope_keys(layer.rope),
        "hidden_act": "silu",
        "attention_bias": False,
    }


def _rope_keys(rope: RopeSpec) -> dict[str, Any]:
    keys: dict[str, Any] = {"rope_type": rope.kind, "rope_theta": rope.theta}
    values = {
        "factor": rope.factor,
        "low_freq_factor": rope.low_freq_factor,
        "high_freq_factor": rope.high_freq_factor,
        "original_max_position_embeddings": rope.original_max_positions,
    }
    return keys | {key: values[key] for key in SCALING_KEYS[rope.kind]}


def parse_config(model: type[Model], path: Path, data: dict[str, Any] | None = None) -> Model:
    """Validate `path` (or `data` read from it) as `model`. Raises `CheckpointError` naming the first bad key."""
    try:
        return model.model_validate(read_json(path) if data is None else data)
    except ValidationError as error:
        raise CheckpointError(
            f"{path}: {first_problem(error)}",
            hint="correct the config, or use a checkpoint that this version supports",
        ) from None
