"""MXFP4 as gpt-oss stores it: every code at every scale, names and orientation, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter
from safetensors.numpy import load_file, save_file

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.gguf_file import GgufFile
from dspark_export.checkpoints.quantised import QuantisedSource, read_scheme
from dspark_export.checkpoints.quantised.mxfp4 import Mxfp4
from dspark_export.checkpoints.safetensors_source import SafetensorsSource

Tensors = dict[str, np.ndarray]
RANDOM = np.random.default_rng(0)
EXPERTS, ROWS, GROUPS = 3, 5, 2
STEM = "model.layers.0.mlp.experts.down_proj"
SAID = {"quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]}}


def number(code: int, scale: int) -> float:
    """E2M1 times a power of two, in float64: a sign, two bits of exponent, one of mantissa."""
    sign, exponent, mantissa = code >> 3, (code >> 1) & 3, code & 1
    size = mantissa * 0.5 if exponent == 0 else (1 + mantissa / 2) * 2.0 ** (exponent - 1)
    return (-1.0 if sign else 1.0) * size * 2.0 ** (scale - 127)


def written(folder: Path) -> Tensors:
    """A layer of experts, and a tensor that is no part of it."""
    tensors = {
        f"{STEM}_blocks": RANDOM.integers(0, 256, (EXPERTS, ROWS, GROUPS, 16)).astype(np.uint8),
        f"{STEM}_scales": RANDOM.integers(110, 130, (EXPERTS, ROWS, GROUPS)).astype(np.uint8),
        f"{STEM}_bias": RANDOM.standard_normal((EXPERTS, ROWS)).astype(ml_dtypes.bfloat16),
    }
    save_file(tensors, folder / "model.safetensors")
    return tensors


def opened(folder: Path) -> QuantisedSource:
    scheme = read_scheme(folder / "config.json", SAID)
    assert scheme is not None
    return QuantisedSource(folder, SafetensorsSource(folder, packed=scheme.endings), scheme)


def test_every_code_at_every_scale() -> None:
    codes = np.tile(np.arange(16, dtype=np.uint8), 2)
    blocks = np.tile(codes[::2] | codes[1::2] << 4, (1, 255, 1, 1))
    scales = np.arange(255, dtype=np.uint8).reshape(1, 255, 1)
    parts = {"blocks": blocks, "scales": scales}
    weight = Mxfp4().load(parts.__getitem__, frozenset(parts))
    with np.errstate(over="ignore"):  # 4 and 6 at the largest scales are beyond float32
        table = np.array([[number(code, scale) for scale in range(255)] for code in codes]).astype(np.float32)
    assert np.isinf(table).any()
    np.testing.assert_array_equal(weight[0].view(np.uint32), table.view(np.uint32))


def test_experts_have_their_unquantised_name_and_orientation(tmp_path: Path) -> None:
    tensors = written(tmp_path)
    source = opened(tmp_path)
    assert source.quantization == "MXFP4"
    assert source.shapes == {STEM: (EXPERTS, 32 * GROUPS, ROWS), f"{STEM}_bias": (EXPERTS, ROWS)}
    assert (source.stored(STEM), source.stored(f"{STEM}_bias")) == ("F32", "BF16")
    weight = source.load(STEM)
    assert weight.shape == source.shapes[STEM]
    for expert, k, row in np.ndindex(weight.shape):
        byte = int(tensors[f"{STEM}_blocks"][expert, row, k // 32, k % 32 // 2])
        code, scale = byte >> 4 if k % 2 else byte & 15, int(tensors[f"{STEM}_scales"][expert, row, k // 32])
        assert weight[expert, k, row] == number(code, scale)


def test_gguf_s_blocks_are_the_same_numbers(tmp_path: Path) -> None:
    """ggml's block_mxfp4 is a scale and 16 bytes, of which byte j holds numbers j and j + 16, low half first."""
    tensors = written(tmp_path)
    blocks, scales = tensors[f"{STEM}_blocks"], tensors[f"{STEM}_scales"]
    codes = np.stack([blocks & 15, blocks >> 4], axis=-1).reshape(EXPERTS, ROWS, GROUPS, 32)
    data = np.concatenate([scales[..., None], codes[..., :16] | codes[..., 16:] << 4], axis=-1)
    writer = GGUFWriter(tmp_path / "model.gguf", "gpt-oss")
    kind = GGMLQuantizationType.MXFP4
    writer.add_tensor("blk.0.ffn_down_exps.weight", data.reshape(EXPERTS, ROWS, -1), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = GgufFile(tmp_path / "model.gguf")
    assert file.quantization == "MXFP4"
    stack = file.load("blk.0.ffn_down_exps.weight")
    np.testing.assert_array_equal(stack, opened(tmp_path).load(STEM).swapaxes(1, 2))


def change(**parts: np.ndarray | None) -> Callable[[Path], None]:
    """Other parts; None leaves one out."""

    def edit(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors") | {f"{STEM}{part}": value for part, value in parts.items()}
        save_file({name: value for name, value in tensors.items() if value is not None}, folder / "model.safetensors")

    return edit


SCALES = np.full((EXPERTS, ROWS, GROUPS), 127, np.uint8)
REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "no scales": (change(_scales=None), f"layer {STEM} is stored as MXFP4, and has no scales"),
    "no blocks": (change(_blocks=None), "its config says MXFP4, and no tensor is called …_blocks"),
    "scales of another shape": (change(_scales=SCALES[:, :, :1]), "scales [3, 5, 1] (uint8) for blocks [3, 5, 2, 16]"),
    "scales of another type": (change(_scales=SCALES.astype(np.float32)), "scales [3, 5, 2] (float32) for blocks"),
    "a scale that is no number": (change(_scales=SCALES + 128), "a scale is 255, which stands for no number"),
    "blocks of words": (change(_blocks=np.zeros((3, 5, 2, 16), np.int32)), "stored as int32, not as bytes"),
    "blocks of another width": (change(_blocks=np.zeros((3, 5, 4, 8), np.uint8)), "with parts of shapes"),
    "blocks in a line": (change(_blocks=np.zeros(16, np.uint8)), "with parts of shapes"),
    "unquantised as well": (
        change(**{"": np.zeros((3, 64, 5), np.float32)}),
        f"holds tensor {STEM}, and the same as M",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(case: str, tmp_path: Path) -> None:
    spoil, said = REFUSED[case]
    written(tmp_path)
    spoil(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        opened(tmp_path).load(STEM)
    assert said in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert caught.value.hint
