"""Weights of 4 bits (E2M1), two in a byte, with a scale for each group: NVIDIA's NVFP4 as two libraries write it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dspark_export.checkpoints.quantised.scheme import Raw, Scheme
from dspark_export.checkpoints.tensors import Array, Shape

E2M1 = np.array((0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6), np.float32)
"""What each of the 16 codes stands for: a sign, two bits of exponent, one of mantissa (OCP Microscaling Formats)."""
PAIRS = np.stack((np.tile(E2M1, 16), np.repeat(E2M1, 16)), axis=-1)
"""[256, 2]: the two numbers of a byte, that of its low half first."""
NVFP4_GROUP = 16


def unpack_fp4(packed: npt.NDArray[Any]) -> Array:
    """uint8 [..., n] to the numbers [..., 2n] that its halves stand for. Raises `ValueError` for another type."""
    if packed.dtype != np.uint8:
        raise ValueError(f"packed numbers are stored as {packed.dtype}, not as bytes")
    return np.asarray(PAIRS[packed].reshape(*packed.shape[:-1], 2 * packed.shape[-1]))


class _Nvfp4(Scheme):
    """[out, in] in groups of 16 inputs, each with a scale in E4M3, and one float32 number for all of them."""

    packed: str
    whole: str

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        out, width = shapes[self.packed]
        return out, 2 * width

    def load(self, raw: Raw, found: frozenset[str]) -> Array:
        weight, scale = unpack_fp4(raw(self.packed)), raw("weight_scale").astype(np.float32)
        expected = (len(weight), weight.shape[1] // NVFP4_GROUP)
        if scale.shape != expected or weight.shape[1] % NVFP4_GROUP:
            raise ValueError(f"scales {list(scale.shape)} for {list(expected)} groups of {NVFP4_GROUP}")
        grouped = weight.reshape(*expected, NVFP4_GROUP)
        grouped *= self.scaled(scale, self._number(raw))[..., None]
        return weight

    @abstractmethod
    def scaled(self, scale: Array, number: np.float32) -> Array:
        """The groups' scales [out, in / 16] with the number for all of them in it."""

    def _number(self, raw: Raw) -> np.float32:
        values = raw(self.whole).astype(np.float32).ravel()
        if values.size != 1 or not 0 < values[0] < np.inf:
            raise ValueError(f"{self.whole} is {values[:4].tolist()}, not one number above 0")
        return np.float32(values[0])


class ModelOptNvfp4(_Nvfp4):
    """NVIDIA ModelOpt (`NVFP4QTensor.dequantize`): value x (scale of its group x `weight_scale_2`)."""

    name, marker = "NVFP4 (modelopt)", "weight_scale_2"
    parts = ("weight", "weight_scale", "weight_scale_2")
    packed, whole = "weight", "weight_scale_2"

    def scaled(self, scale: Array, number: np.float32) -> Array:
        return scale * number


class CompressedNvfp4(_Nvfp4):
    """compressed-tensors `nvfp4-pack-quantized`: value x (scale of its group / `weight_global_scale`)."""

    name, marker = "NVFP4 (compressed-tensors)", "weight_packed"
    parts = ("weight_packed", "weight_scale", "weight_global_scale")
    ignored = (*Scheme.ignored, "input_global_scale")
    packed, whole = "weight_packed", "weight_global_scale"

    def scaled(self, scale: Array, number: np.float32) -> Array:
        return scale / number
