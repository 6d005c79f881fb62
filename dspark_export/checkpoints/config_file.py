"""Reading a checkpoint's JSON config: outside data, so pydantic checks it and one line says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
)

from dspark_calibration import first_problem
from dspark_engines import text_file
from dspark_engines.errors import CheckpointError, TextError
from dspark_export.checkpoints.rope_config import RopeConfig, rope_keys
from dspark_export.checkpoints.spec import DecoderShape, LayerSpec, RopeSpec

MOST_LAYERS = 10_000
"""No model has as many; what a config announces beyond is refused before a list of it is made."""
Model = TypeVar("Model", bound=BaseModel)
LayerType = Literal["full_attention", "sliding_attention"]


class GenerationConfig(BaseModel):
    """What generation_config.json and config.json may both say: which tokens end a sequence."""

    model_config = ConfigDict(extra="ignore")

    eos_token_id: NonNegativeInt | list[NonNegativeInt] | None = None

    def eos_ids(self) -> tuple[int, ...]:
        """End-of-sequence ids as a tuple; empty when the config names none."""
        eos = self.eos_token_id
        return () if eos is None else (eos,) if isinstance(eos, int) else tuple(eos)


class DecoderConfig(GenerationConfig):
    """The keys that most decoders share, under Hugging Face's names. A family says which of them it obeys."""

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
    attention_bias: bool = False
    mlp_bias: Literal[False] = False
    use_sliding_window: bool = False
    sliding_window: PositiveInt | None = None
    max_window_layers: NonNegativeInt = 0
    layer_types: list[LayerType] | None = None
    partial_rotary_factor: float = Field(default=1.0, ge=1.0, le=1.0)
    rope_is_neox_style: Literal[True] | None = None
    bos_token_id: NonNegativeInt | None = None
    tie_word_embeddings: bool = Field(default=False)

    def decoder_shape(self, path: Path, windows: Sequence[int] = (), **facts: Any) -> DecoderShape:
        """The normalised shape; `windows` of the layers where some have one, `facts` that all layers share.

        Raises `CheckpointError` when heads do not divide or rope has no base.
        """
        layer = self.layer(path, self.rope(path), **facts)
        layers = tuple(replace(layer, window=window) for window in windows or (0,) * self.num_hidden_layers)
        return DecoderShape(hidden_size=self.hidden_size, rms_norm_eps=self.rms_norm_eps, layers=layers)

    def layer(self, path: Path, rope: RopeSpec, **facts: Any) -> LayerSpec:
        """One layer, rotated by `rope`, with `facts` that its class has and no key says."""
        kv_heads = self.num_key_value_heads or self.num_attention_heads
        if self.num_attention_heads % kv_heads:
            raise CheckpointError(
                f"{path}: num_attention_heads {self.num_attention_heads} is not a multiple of "
                f"num_key_value_heads {kv_heads}",
                hint="grouped-query attention needs whole groups; check the config against the weights",
            )
        return LayerSpec(
            num_heads=self.num_attention_heads,
            num_kv_heads=kv_heads,
            head_dim=self.head_dim or self.hidden_size // self.num_attention_heads,
            intermediate_size=self.intermediate_size,
            rope=rope,
            **facts,
        )

    def rope(self, path: Path) -> RopeSpec:
        """How all layers are rotated. Raises `CheckpointError` without a base."""
        rope = self.rope_scaling or self.rope_parameters or RopeConfig()  # transformers lets the older key win
        theta = rope.rope_theta or self.rope_theta
        if theta is None:
            raise CheckpointError(
                f"{path}: missing key 'rope_theta'", hint="add it to the config (or to rope_parameters)"
            )
        return rope.spec(theta, self.max_position_embeddings)

    def windows(self, path: Path) -> tuple[int, ...]:
        """Each layer's window as `layer_types` says, or `max_window_layers` where there are none; 0: it sees all.

        Raises `CheckpointError` where layers slide and no width is given, or types are not one a layer.
        """
        count, wide = self.num_hidden_layers, self.sliding_window if self.use_sliding_window else None
        types = self.layer_types
        if types is None:
            sliding = [wide is not None and i >= self.max_window_layers for i in range(count)]
        else:
            sliding = [kind == "sliding_attention" for kind in types]
        if len(sliding) != count:
            raise CheckpointError(
                f"{path}: layer_types names {len(sliding)} layers, num_hidden_layers is {count}",
                hint="config and weights do not belong together",
            )
        if any(sliding) and wide is None:
            raise CheckpointError(
                f"{path}: layer_types says that layers slide, and there is no sliding_window",
                hint="add its width (and use_sliding_window, where the class has it)",
            )
        return tuple((wide or 0) if slides else 0 for slides in sliding)


class UniformConfig(DecoderConfig):
    """Layers without biases that all see everything."""

    attention_bias: Literal[False] = False
    use_sliding_window: Literal[False] = False
    layer_types: list[Literal["full_attention"]] | None = None  # type: ignore[assignment]  # fewer of them


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
    if layer is None or layer != _plain(layer):
        raise CheckpointError(
            "layers that differ, or have a window, a scale, a softcap, biases, sinks, experts, another activation, "
            "more norms or what Gemma 4 has, cannot be written in this dialect",
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
        "rope_parameters": rope_keys(layer.rope),
        "hidden_act": "silu",
        "attention_bias": False,
    }


def _plain(layer: LayerSpec) -> LayerSpec:
    """`layer` without what these keys do not say."""
    return replace(
        layer,
        window=0,
        scale=None,
        softcap=0.0,
        qkv_bias=False,
        output_bias=False,
        activation="silu",
        sandwich=False,
        sinks=False,
        experts=None,
        value_norm=False,
        shared_values=False,
        keys_from=None,
        per_layer_input=0,
        layer_scalar=False,
    )


def parse_config(model: type[Model], path: Path, data: dict[str, Any] | None = None) -> Model:
    """Validate `path` (or `data` read from it) as `model`. Raises `CheckpointError` naming the first bad key."""
    try:
        return model.model_validate(read_json(path) if data is None else data)
    except ValidationError as error:
        raise CheckpointError(
            f"{path}: {first_problem(error)}",
            hint="correct the config, or use a checkpoint that this version supports",
        ) from None
