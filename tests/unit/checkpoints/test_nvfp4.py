"""NVFP4 as NVIDIA ModelOpt and compressed-tensors write it: numbers by the libraries' formulas, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import open_target
from dspark_export.checkpoints.quantised.fp4 import unpack_fp4
from dspark_export.checkpoints.safetensors_source import SafetensorsSource
from tests.support import tiny
from tests.support.quantised_target import Packed, Tensors, assert_read, write_quantised

RANDOM = np.random.default_rng(0)
VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
MODELOPT = {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]}
COMPRESSED = {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}
BESIDE = "hf_quant_config.json"
Q = "model.layers.0.self_attn.q_proj"


def number(code: int) -> float:
    """E2M1: a sign, two bits of exponent, one of mantissa."""
    sign, exponent, mantissa = code >> 3, (code >> 1) & 3, code & 1
    size = mantissa * 0.5 if exponent == 0 else (1 + mantissa / 2) * 2.0 ** (exponent - 1)
    return -size if sign else size


def modelopt(packed: np.ndarray, scale: np.ndarray, whole: np.float32) -> tuple[Tensors, np.ndarray]:
    """Parts, and what a group's scale comes to."""
    parts = {"weight": packed, "weight_scale": scale, "weight_scale_2": np.asarray(whole)}
    return parts | {"input_scale": np.asarray(whole)}, scale.astype(np.float32) * whole


def compressed(packed: np.ndarray, scale: np.ndarray, whole: np.float32) -> tuple[Tensors, np.ndarray]:
    divisor = np.array([1 / whole], np.float32)
    parts = {"weight_packed": packed, "weight_scale": scale, "weight_global_scale": divisor}
    return parts | {"input_global_scale": divisor}, scale.astype(np.float32) / divisor


CASES = {
    "modelopt": (MODELOPT, modelopt, "NVFP4 (modelopt)"),
    "compressed-tensors": (COMPRESSED, compressed, "NVFP4 (compressed-tensors)"),
}


def write(folder: Path, case: str) -> Tensors:
    """The tiny target with its linear layers packed; the weights that they stand for, number by number."""
    config, parts_of, _ = CASES[case]

    def pack(out: int, inner: int) -> Packed:
        codes = RANDOM.integers(0, 16, (out, inner))
        packed = (codes[:, ::2] | codes[:, 1::2] << 4).astype(np.uint8)
        scale = RANDOM.uniform(0.01, 400, (out, inner // 16)).astype(ml_dtypes.float8_e4m3fn)
        parts, scaled = parts_of(packed, scale, np.float32(RANDOM.uniform(1e-5, 1e-4)))
        values = np.array([[number(code) for code in row] for row in codes], np.float32)
        return parts, values * scaled[:, np.arange(inner) // 16]

    return write_quantised(folder, config, pack)


@pytest.mark.parametrize("case", CASES)
def test_a_weight_is_its_formula(case: str, tmp_path: Path) -> None:
    assert_read(tmp_path, CASES[case][2], write(tmp_path, case))


def test_every_byte_is_two_numbers_the_low_half_first() -> None:
    every = np.arange(256, dtype=np.uint8)
    expected = np.array([(number(byte & 15), number(byte >> 4)) for byte in range(256)], np.float32)
    assert sorted({abs(value) for value in expected.ravel().tolist()}) == list(VALUES)
    np.testing.assert_array_equal(unpack_fp4(every[:, None]).view(np.uint32), expected.view(np.uint32))


def test_the_file_beside_the_config_says_it_as_well(tmp_path: Path) -> None:
    expected = write(tmp_path, "modelopt")
    tiny.edit_config(tmp_path, quantization_config=None)
    said = {"quant_algo": "NVFP4", "group_size": 16, "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}
    (tmp_path / BESIDE).write_text(json.dumps({"producer": {"name": "modelopt"}, "quantization": said}))
    target = open_target(tmp_path)
    assert target.quantization == "NVFP4 (modelopt)"
    np.testing.assert_array_equal(target.weights[f"{Q[6:]}.weight"], expected[f"{Q[6:]}.weight"])


def test_a_file_beside_that_is_about_caches_alone_changes_nothing(tmp_path: Path) -> None:
    tiny.write_target(tmp_path)
    (tmp_path / BESIDE).write_text('{"quantization": {"quant_algo": null, "kv_cache_quant_algo": "FP8"}}')
    assert open_target(tmp_path).quantization == ""


ONE = (np.zeros((1, 8), np.uint8), np.ones((1, 1), ml_dtypes.float8_e4m3fn), np.float32(1))
PARTS = tuple(part for _, pack, _ in CASES.values() for part in pack(*ONE)[0])


def change(**parts: np.ndarray | None) -> Callable[[Path], None]:
    """Other parts of one layer; None leaves one out."""

    def edit(folder: Path) -> None:
        source = SafetensorsSource(folder, packed=PARTS)
        tensors: dict[str, Any] = {name: source.load_raw(name) for name in source.shapes}
        tensors |= {f"{Q}.{part}": value for part, value in parts.items()}
        save_file({name: value for name, value in tensors.items() if value is not None}, folder / "model.safetensors")

    return edit


def algorithm(name: str) -> Callable[[Path], None]:
    return lambda folder: tiny.edit_config(folder, quantization_config=MODELOPT | {"quant_algo": name})


def beside(text: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        tiny.edit_config(folder, quantization_config=None)
        (folder / BESIDE).write_text(text)

    return edit


NAN = np.full((64, 3), np.nan, ml_dtypes.float8_e4m3fn)
REFUSED: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "another algorithm": ("modelopt", algorithm("NVFP4_AWQ"), "by 'modelopt' {'quant_algo': 'NVFP4_AWQ'}, which"),
    "no scale": ("modelopt", change(weight_scale=None), f"layer {Q} is stored as NVFP4 (modelopt), and has no"),
    "no second scale": ("modelopt", change(weight_scale_2=None), f"tensor {Q}.weight is stored as U8"),
    "no global scale": ("compressed-tensors", change(weight_global_scale=None), "and has no weight_global_scale"),
    "a global scale of 0": (
        "compressed-tensors", change(weight_global_scale=np.zeros(1, np.float32)), "global_scale is [0.0], not one"
    ),
    "two second scales": ("modelopt", change(weight_scale_2=np.ones(2, np.float32)), "weight_scale_2 is [1.0, 1.0]"),
    "groups of 48": (
        "modelopt", change(weight_scale=np.ones((64, 1), ml_dtypes.float8_e4m3fn)), "scales [64, 1] for [64, 3]"
    ),
    "a scale that is no number": (
        "modelopt", change(weight_scale=NAN), f"tensor {Q}.weight holds nan"
    ),
    "words for bytes": ("modelopt", change(weight=np.zeros((64, 24), np.int32)), "are stored as int32, not as bytes"),
    "a line for a matrix": ("modelopt", change(weight=np.zeros(9, np.uint8)), "(modelopt), with parts of shapes"),
    "no word of the weights beside": ("modelopt", beside("{}"), "hf_quant_config.json: no 'quantization'"),
    "no JSON beside": ("modelopt", beside("{"), "hf_quant_config.json: not JSON"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(case: str, tmp_path: Path) -> None:
    scheme, spoil, said = REFUSED[case]
    write(tmp_path, scheme)
    spoil(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        dict(open_target(tmp_path).weights)
    assert said in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert caught.value.hint
