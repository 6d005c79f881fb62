"""MXFP4 as gpt-oss stores its experts: numbers of 4 bits (E2M1), a power of two for each 32 of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dspark_export.checkpoints.quantised.fp4 import unpack_fp4
from dspark_export.checkpoints.quantised.scheme import Raw, Scheme
from dspark_export.checkpoints.tensors import Array, Shape

GROUP_BYTES = 16
"""Of a group of 32 numbers."""
BIAS, NO_NUMBER = 127, 255
"""Of a scale in E8M0 (OCP Microscaling Formats): what is taken off the exponent, and the code for none."""


class Mxfp4(Scheme):
    """`X_blocks` uint8 [..., rows, K / 32, 16], the low half of a byte first, and `X_scales` uint8 [..., rows, K / 32].

    They stand for a tensor X [..., K, rows], as transformers' GptOssForCausalLM has it where nothing is quantised:
    `experts.gate_up_proj` [E, H, 2I] and `experts.down_proj` [E, I, H]. `modules_to_not_convert` says which layers are
    left as they are, and so do the names.
    """

    name, marker = "MXFP4", "blocks"
    parts = ("blocks", "scales")
    ignored = ()
    joint, result = "_", ""

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        *experts, rows, count, width = shapes["blocks"]
        if width != GROUP_BYTES:
            raise ValueError(f"blocks of {width} bytes")
        return *experts, count * 2 * width, rows

    def load(self, raw: Raw, found: frozenset[str]) -> Array:
        blocks, scales = raw("blocks"), raw("scales")
        if scales.shape != blocks.shape[:-1] or scales.dtype != np.uint8:
            raise ValueError(f"scales {list(scales.shape)} ({scales.dtype}) for blocks {list(blocks.shape)}")
        if scales.size and scales.max() == NO_NUMBER:
            raise ValueError(f"a scale is {NO_NUMBER}, which stands for no number")
        weight = np.empty(self.shape({"blocks": blocks.shape}), np.float32)
        for expert in np.ndindex(weight.shape[:-2]):  # one at a time: what is in between is as large again
            weight[expert] = _matrix(blocks[expert], scales[expert]).T
        return weight


def _matrix(blocks: npt.NDArray[Any], scales: npt.NDArray[Any]) -> Array:
    """[rows, K] of blocks [rows, K / 32, 16] and scales [rows, K / 32]."""
    values = unpack_fp4(blocks)
    with np.errstate(over="ignore"):  # what is not finite is refused by name, wherever it comes from
        np.ldexp(values, (scales.astype(np.int32) - BIAS)[..., None], out=values)
    return values.reshape(len(blocks), -1)
