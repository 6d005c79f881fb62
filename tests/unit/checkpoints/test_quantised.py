"""Quantised checkpoints: every scheme against its formula, number by number, and what is refused."""

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
from dspark_export.checkpoints.safetensors_source import SafetensorsSource
from tests.support import tiny
from tests.support.quantised_target import Packed, Tensors, assert_read, write_quantised

RANDOM = np.random.default_rng(0)
GROUP = 16
EVERYTHING = (
    "weight", "bias", "weight_scale_inv", "weight_scale", "input_scale", "weight_zero_point", "weight_packed",
    "weight_shape", "weight_g_idx", "qweight", "qzeros", "scales", "g_idx",
)  # fmt: skip
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""AutoAWQ's `order_map`: which of eight columns number i of a word is."""


def load(path: Path) -> Tensors:
    """As `safetensors.numpy.load_file`, which knows no FP8."""
    source = SafetensorsSource(path.parent, packed=EVERYTHING)
    return {name: source.load_raw(name) for name in source.shapes}


def words(values: np.ndarray, bits: int) -> np.ndarray:
    """The last axis packed into 32-bit words, lowest bits first, one number after the other."""
    per = 32 // bits
    out = np.zeros((*values.shape[:-1], values.shape[-1] // per), np.int64)
    for place in range(per):
        out |= values[..., place::per].astype(np.int64) << (bits * place)
    return out.astype(np.uint32).view(np.int32)


def scales(*shape: int) -> np.ndarray:
    return RANDOM.uniform(0.001, 0.02, shape).astype(np.float32)


def spread(values: np.ndarray, size: int) -> np.ndarray:
    """Each column as often as a group is wide."""
    return values[:, np.arange(size) * values.shape[1] // size]


def fp8(out: int, inner: int) -> np.ndarray:
    return RANDOM.standard_normal((out, inner)).astype(ml_dtypes.float8_e4m3fn)


def tiles(out: int, inner: int) -> Packed:
    weight, scale = fp8(out, inner), scales(-(-out // 32), -(-inner // 32))
    full = np.kron(scale, np.ones((32, 32), np.float32))[:out, :inner]
    return {"weight": weight, "weight_scale_inv": scale}, weight.astype(np.float32) * full


def lines_fp8(out: int, inner: int) -> Packed:
    weight, scale = fp8(out, inner), scales(out, 1).astype(ml_dtypes.bfloat16)
    parts = {"weight": weight, "weight_scale": scale, "input_scale": scales(1)}
    return parts, weight.astype(np.float32) * scale.astype(np.float32)


def whole_fp8(out: int, inner: int) -> Packed:
    weight, scale = fp8(out, inner), scales(1)
    return {"weight": weight, "weight_scale": scale}, weight.astype(np.float32) * scale


def lines_int8(out: int, inner: int) -> Packed:
    weight, scale = RANDOM.integers(-128, 128, (out, inner)).astype(np.int8), scales(out, 1)
    zero = RANDOM.integers(-5, 5, (out, 1)).astype(np.int8)
    expected = (weight.astype(np.float32) - zero.astype(np.float32)) * scale
    return {"weight": weight, "weight_scale": scale, "weight_zero_point": zero}, expected


def compressed(bits: int, zero: bool) -> Callable[[int, int], Packed]:
    def make(out: int, inner: int) -> Packed:
        half, count = 1 << (bits - 1), inner // GROUP
        values, scale = RANDOM.integers(-half, half, (out, inner)), scales(out, count).astype(ml_dtypes.bfloat16)
        parts = {
            "weight_packed": words(values + half, bits),
            "weight_scale": scale,
            "weight_shape": np.array([out, inner], np.int64),
        }
        expected = values.astype(np.float32)
        if zero:
            zeros = RANDOM.integers(-half, half, (out, count))
            parts["weight_zero_point"] = np.ascontiguousarray(words((zeros + half).T, bits).T)
            expected = expected - spread(zeros, inner)
        return parts, expected * spread(scale.astype(np.float32), inner)

    return make


def awq(out: int, inner: int) -> Packed:
    count = inner // GROUP
    values, zeros = RANDOM.integers(0, 16, (inner, out)), RANDOM.integers(0, 16, (count, out))
    scale = scales(count, out).astype(np.float16)
    order = (np.arange(0, out, 8)[:, None] + np.array(AWQ_ORDER)).ravel()
    parts = {"qweight": words(values[:, order], 4), "qzeros": words(zeros[:, order], 4), "scales": scale}
    expected = (values - spread(zeros.T, inner).T) * spread(scale.astype(np.float32).T, inner).T
    return parts, expected.T.astype(np.float32)


def gptq(bits: int, less: int, ordered: bool) -> Callable[[int, int], Packed]:
    def make(out: int, inner: int) -> Packed:
        count = inner // GROUP
        values, zeros = RANDOM.integers(0, 1 << bits, (inner, out)), RANDOM.integers(less, 1 << bits, (count, out))
        scale, group = scales(count, out).astype(np.float16), np.arange(inner) // GROUP
        if ordered:
            group = RANDOM.permutation(group)
        packed = {"qweight": np.ascontiguousarray(words(values.T, bits).T), "qzeros": words(zeros - less, bits)}
        expected = (values - zeros[group]) * scale.astype(np.float32)[group]
        return packed | {"scales": scale, "g_idx": group.astype(np.int32)}, expected.T.astype(np.float32)

    return make


def packed_config(bits: int) -> dict[str, Any]:
    groups = {"group_0": {"weights": {"num_bits": bits, "group_size": GROUP, "strategy": "group"}}}
    return {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": groups}


COMPRESSED = {"quant_method": "compressed-tensors"}
SCHEMES: dict[str, tuple[dict[str, Any], Callable[[int, int], Packed], str]] = {
    "FP8 in tiles": ({"quant_method": "fp8", "weight_block_size": [32, 32]}, tiles, "FP8, tiles of 32 by 32"),
    "FP8 whole": ({"quant_method": "fp8", "activation_scheme": "static"}, whole_fp8, "FP8, a scale a line"),
    "compressed FP8": (COMPRESSED | {"format": "float-quantized"}, lines_fp8, "FP8, a scale a line"),
    "compressed INT8": (COMPRESSED | {"format": "int-quantized"}, lines_int8, "INT8, a scale a line"),
    "compressed 4 bits": (packed_config(4), compressed(4, zero=False), "compressed-tensors, 4 bits"),
    "compressed 4 bits with zeros": (packed_config(4), compressed(4, zero=True), "compressed-tensors, 4 bits"),
    "compressed 8 bits": (packed_config(8), compressed(8, zero=False), "compressed-tensors, 8 bits"),
    "AWQ": ({"quant_method": "awq", "bits": 4, "version": "gemm", "zero_point": True}, awq, "AWQ, 4 bits"),
    "GPTQ": ({"quant_method": "gptq", "bits": 4}, gptq(4, 1, ordered=False), "GPTQ, 4 bits"),
    "GPTQ in order of activation": ({"quant_method": "gptq", "bits": 4, "desc_act": True}, gptq(4, 1, True),
        "GPTQ, 4 bits"),
    "GPTQ's second format": (
        {"quant_method": "gptq", "bits": 8, "checkpoint_format": "gptq_v2"}, gptq(8, 0, ordered=False), "GPTQ, 8 bits"
    ),
}  # fmt: skip


def write(folder: Path, case: str) -> Tensors:
    """The tiny target with its linear layers packed; the weights that they stand for."""
    config, pack, _ = SCHEMES[case]
    return write_quantised(folder, config, pack)


@pytest.mark.parametrize("case", SCHEMES)
def test_a_scheme_is_its_formula(case: str, tmp_path: Path) -> None:
    assert_read(tmp_path, SCHEMES[case][2], write(tmp_path, case))


def change(folder: Path, edit: Callable[[Tensors], Any]) -> None:
    path = folder / "model.safetensors"
    tensors = load(path)
    edit(tensors)
    save_file(tensors, path)


Q = "model.layers.0.self_attn.q_proj"
REFUSED: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "another method": (
        "AWQ", lambda f: tiny.edit_config(f, quantization_config={"quant_method": "hqq"}), "quantised by 'hqq',"
    ),
    "another layout of AWQ": (
        "AWQ", lambda f: tiny.edit_config(f, quantization_config={"quant_method": "awq", "bits": 4, "version": "gemv"}),
        "quantised by 'awq' {'bits': 4, 'version': 'gemv'}, which is not read",
    ),
    "three bits": (
        "GPTQ", lambda f: tiny.edit_config(f, quantization_config={"quant_method": "gptq", "bits": 3}),
        "'gptq' {'bits': 3}",
    ),
    "a scale is missing": (
        "FP8 in tiles", lambda f: change(f, lambda t: t.pop(f"{Q}.weight_scale_inv")),
        f"tensor {Q}.weight is stored as F8",
    ),
    "zeros are missing": (
        "AWQ", lambda f: change(f, lambda t: t.pop(f"{Q}.qzeros")),
        f"layer {Q} is stored as AWQ, 4 bits, and has no qzeros",
    ),
    "nothing is quantised": (
        "AWQ", lambda f: tiny.write_target(f) and tiny.edit_config(f, quantization_config=SCHEMES["AWQ"][0]),
        "its config says AWQ, 4 bits, and no tensor is called …",
    ),
    "too few scales": (
        "FP8 in tiles", lambda f: change(f, lambda t: t.update({f"{Q}.weight_scale_inv": scales(1, 1)})),
        "scales [1, 1] for [2, 2] tiles",
    ),
    "groups beyond the scales": (
        "GPTQ", lambda f: change(f, lambda t: t.update({f"{Q}.g_idx": np.full(48, 9, np.int32)})),
        "g_idx names groups beyond",
    ),
    "activation order": (
        "compressed 4 bits", lambda f: change(f, lambda t: t.update({f"{Q}.weight_g_idx": np.zeros(48, np.int32)})),
        "activation order (weight_g_idx) is not supported",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(case: str, tmp_path: Path) -> None:
    scheme, spoil, said = REFUSED[case]
    write(tmp_path, scheme)
    spoil(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        dict(open_target(tmp_path).weights)
    assert said in str(caught.value)
    assert caught.value.hint
    assert json.loads((tmp_path / "config.json").read_text())["quantization_config"]
