"""Tensors read in parts: what the library gives, whatever type they are stored in."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dspark_export.checkpoints import safetensors_file
from dspark_export.checkpoints.safetensors_file import read_floats

TYPES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
SHAPES = {"matrix": (5, 7), "row": (9,), "scalar": (), "empty": (0, 3), "stack": (2, 3, 4)}


@pytest.mark.parametrize("at_a_time", [4, 1 << 24])
@pytest.mark.parametrize("dtype", TYPES)
def test_a_tensor_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, at_a_time: int) -> None:
    monkeypatch.setattr(safetensors_file, "NUMBERS_AT_A_TIME", at_a_time)
    random, path = np.random.default_rng(0), tmp_path / "m.safetensors"
    given = {name: np.asarray(random.standard_normal(shape) * 1e3, TYPES[dtype]) for name, shape in SHAPES.items()}
    given["matrix"][0, :3] = np.inf, -0.0, np.nan
    save_file(given, path)
    for name, expected in load_file(path).items():
        found = read_floats(path, name)
        assert (found.dtype, found.shape) == (np.float32, SHAPES[name])
        np.testing.assert_array_equal(found.view(np.uint32), expected.astype(np.float32).view(np.uint32), err_msg=name)
