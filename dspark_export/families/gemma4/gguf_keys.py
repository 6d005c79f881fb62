"""Keys of Gemma 4's GGUF files that have to agree with each other, and rotation that leaves pairs as they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import LayerSpec, RopeSpec
from dspark_export.checkpoints.gguf_counts import not_negative
from dspark_export.checkpoints.gguf_file import CONVERT_AGAIN

if TYPE_CHECKING:
    from dspark_export.checkpoints.gguf_file import GgufFile

STILL = 1e29
"""Pairs whose frequency is divided by more do not turn: the converter writes 1e30, in float32, for these."""


def sliding_pattern(file: GgufFile, name: str, layers: int) -> tuple[bool, ...]:
    """Which layers see a window only: an array of truth values, as the loader of llama.cpp wants it."""
    key = f"{name}.attention.sliding_window_pattern"
    value = file.require(key, lambda given: given)
    if not isinstance(value, list) or not all(one in (0, 1) for one in value):
        raise CheckpointError(
            f"{file.path}: {key} is no list that says of each layer whether it slides", hint=CONVERT_AGAIN
        )
    if len(value) != layers:
        raise CheckpointError(f"{file.path}: {key} has {len(value)} entries for {layers} layers", hint=CONVERT_AGAIN)
    return tuple(bool(one) for one in value)


def check_head(file: GgufFile, name: str, ending: str, width: int) -> None:
    """Raises `CheckpointError` where values are not as wide as keys, or heads of a kind are turned in part."""
    for key in (f"{name}.attention.value_length{ending}", f"{name}.rope.dimension_count{ending}"):
        value = file.count(key, width)
        if value != width:
            raise CheckpointError(
                f"{file.path}: {key} is {value}, and {name}.attention.key_length{ending} {width}", hint=CONVERT_AGAIN
            )


def still_pairs(file: GgufFile, name: str, rope: RopeSpec) -> RopeSpec:
    """The rotation of full layers, some pairs of which stand still. Raises `CheckpointError` for scaling as well."""
    if rope.kind != "default" or rope.attention_factor != 1:
        raise CheckpointError(
            f"{file.path}: {name}.rope.scaling is set, and Gemma 4 is read from GGUF without it",
            hint="point at the Hugging Face directory of the same model",
        )
    if not rope.divisors:
        raise CheckpointError(
            f"{file.path}: missing tensor 'rope_freqs.weight', which says how much of a full layer's heads turns",
            hint=CONVERT_AGAIN,
        )
    return replace(rope, divisors=tuple(math.inf if value > STILL else value for value in rope.divisors))


def sharing_layers(file: GgufFile, key: str, layers: Sequence[LayerSpec]) -> tuple[LayerSpec, ...]:
    """The last layers take over keys and values: full ones those of the last layer before them, sliding ones those of
    the last but one (llama.cpp's src/llama-model.cpp, create_memory). Raises `CheckpointError` where that is no layer
    of their kind."""
    first = len(layers) - not_negative(file, key, 0)
    found = list(layers)
    for i in range(max(first, 0), len(layers)):
        owner = first - (2 if layers[i].window else 1)
        if first < 2 or layers[owner].window != layers[i].window:
            raise CheckpointError(
                f"{file.path}: {key} is {len(layers) - first}, and layer {i} finds no layer of its kind to share with",
                hint="point at the Hugging Face directory of the same model",
            )
        found[i] = replace(layers[i], keys_from=owner)
    return tuple(found)
