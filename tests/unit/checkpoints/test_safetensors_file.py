"""Tensors of a file: what the library gives, whatever type they are stored in, and no second look at the header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import safetensors_file
from dspark_export.checkpoints.safetensors_file import TYPES, read_floats, read_header, read_raw
from dspark_export.checkpoints.safetensors_source import SafetensorsSource

FLOATS = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
SHAPES = {"matrix": (5, 7), "row": (9,), "scalar": (), "empty": (0, 3), "stack": (2, 3, 4)}


@pytest.mark.parametrize("at_a_time", [4, 1 << 24])
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_tensor_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, at_a_time: int) -> None:
    monkeypatch.setattr(safetensors_file, "NUMBERS_AT_A_TIME", at_a_time)
    random, path = np.random.default_rng(0), tmp_path / "m.safetensors"
    given = {name: np.asarray(random.standard_normal(shape) * 1e3, FLOATS[dtype]) for name, shape in SHAPES.items()}
    given["matrix"][0, :3] = np.inf, -0.0, np.nan
    save_file(given, path)
    for name, expected in load_file(path).items():
        found = read_floats(read_header(path)[name])
        assert (found.dtype, found.shape) == (np.float32, SHAPES[name])
        np.testing.assert_array_equal(found.view(np.uint32), expected.astype(np.float32).view(np.uint32), err_msg=name)


def write_by_hand(path: Path, dtype: str, shape: tuple[int, ...], data: bytes) -> None:
    """A file with 8 bytes in front of the tensor "a"."""
    first = {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}
    second = {"dtype": dtype, "shape": list(shape), "data_offsets": [8, 8 + len(data)]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "before": first, "a": second}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8) + data)


@pytest.mark.parametrize("shape", [(3, 4), (), (0, 3)])
@pytest.mark.parametrize("dtype", TYPES)
def test_a_tensor_in_the_type_that_it_is_stored_in(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    data = (np.arange(np.prod(shape, dtype=int) * np.dtype(TYPES[dtype]).itemsize) % 2).astype(np.uint8).tobytes()
    path = tmp_path / "m.safetensors"
    write_by_hand(path, dtype, shape, data)
    with safe_open(path, "np") as file:  # the library finds the header right
        assert file.get_slice("a").get_dtype() == dtype
        assert tuple(file.get_slice("a").get_shape()) == shape
    found = read_raw(read_header(path)["a"])
    assert (found.dtype, found.shape, found.tobytes()) == (TYPES[dtype], shape, data)


def test_a_type_without_whole_bytes_is_refused_wherever_it_is(tmp_path: Path) -> None:
    write_by_hand(tmp_path / "model.safetensors", "F4", (4, 4), bytes(8))
    with pytest.raises(CheckpointError, match="tensor a is stored as F4"):
        SafetensorsSource(tmp_path, packed=("before", "a"))


def test_the_header_of_a_shard_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names, parsed = [f"experts.{i}" for i in range(20)], list[int]()
    for shard in "ab":
        arrays = {f"{shard}.{name}": np.full((2, 3), i, ml_dtypes.bfloat16) for i, name in enumerate(names)}
        save_file(arrays | {f"{shard}.ids": np.arange(3)}, tmp_path / f"{shard}.safetensors")
    owners = {f"{shard}.{name}": f"{shard}.safetensors" for shard in "ab" for name in (*names, "ids")}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": owners}))

    def loads(text: bytes) -> Any:
        parsed.append(len(text))
        return json.loads(text)

    monkeypatch.setattr(safetensors_file, "json", type("json", (), {"loads": staticmethod(loads)}))
    source = SafetensorsSource(tmp_path, integers=frozenset(("a.ids", "b.ids")))
    monkeypatch.setattr("dspark_export.checkpoints.safetensors_source.safe_open", None)  # nor does the library look
    for shard in "ab":
        for i, name in enumerate(names):
            assert source.stored(f"{shard}.{name}") == "BF16"
            assert source.load(f"{shard}.{name}").tolist() == [[i] * 3] * 2
            assert source.load_raw(f"{shard}.{name}").dtype == ml_dtypes.bfloat16
        assert source.load_integers(f"{shard}.ids").tolist() == [0, 1, 2]
    assert len(parsed) == 2
