"""The tiny target with its linear layers stored in another way, and the check that they read back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from dspark_export.checkpoints import open_target
from tests.support import tiny

Tensors = dict[str, np.ndarray]
Packed = tuple[Tensors, np.ndarray]
"""Parts by suffix, and the weight [out, in] that they stand for."""


def write_quantised(folder: Path, config: dict[str, Any], pack: Callable[[int, int], Packed]) -> Tensors:
    """Every layer as `pack` of its extents says; the weights that they stand for, by canonical name."""
    tiny.write_target(folder)
    tiny.edit_config(folder, quantization_config=config)
    tensors, expected = load_file(folder / "model.safetensors"), {}
    for name, array in list(tensors.items()):
        if name.endswith("_proj.weight"):
            del tensors[name]
            parts, weight = pack(*array.shape)
            tensors |= {f"{name.removesuffix('weight')}{part}": value for part, value in parts.items()}
            expected[name.removeprefix("model.")] = weight
    save_file(tensors, folder / "model.safetensors")
    return expected


def assert_read(folder: Path, quantization: str, expected: Tensors) -> None:
    """The target in `folder` is called `quantization`, and its weights are `expected`, in float32."""
    target = open_target(folder)
    assert target.quantization == quantization
    assert len(expected) == 7 * tiny.LAYERS
    for name, weight in expected.items():
        assert target.weights.shapes[name] == weight.shape
        np.testing.assert_array_equal(target.weights[name], weight, err_msg=name)
        assert target.weights[name].dtype == np.float32
