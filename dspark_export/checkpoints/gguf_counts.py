"""Numbers of a GGUF file that may differ from layer to layer."""

from __future__ import annotations

from collections.abc import Sequence

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.gguf_file import CONVERT_AGAIN, GgufFile


def layer_counts(file: GgufFile, key: str, layers: int, default: Sequence[int] | None = None) -> tuple[int, ...]:
    """A positive number for every layer: one that goes for all, or an array of them, as llama.cpp's get_key_or_arr.

    `default` is what a file without the key means. Raises `CheckpointError` for an array of another length.
    """
    value = file.get(key)
    if value is None and default is not None:
        return tuple(default)
    if not isinstance(value, list):
        return (file.count(key),) * layers
    if len(value) != layers:
        raise CheckpointError(f"{file.path}: {key} has {len(value)} numbers for {layers} layers", hint=CONVERT_AGAIN)
    wrong = next((one for one in value if not isinstance(one, int) or one < 1), None)
    if wrong is not None:
        raise CheckpointError(f"{file.path}: {key} has {wrong!r:.60} for a layer", hint=CONVERT_AGAIN)
    return tuple(value)


def not_negative(file: GgufFile, key: str, default: int | None = None) -> int:
    """A whole number from 0 on; `default` where the file has none. Raises `CheckpointError`."""
    value = default if default is not None and file.get(key) is None else file.require(key, int)
    if value < 0:
        raise CheckpointError(f"{file.path}: {key} is {value}", hint=CONVERT_AGAIN)
    return value
