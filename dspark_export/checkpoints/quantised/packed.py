"""Weights of 4 or 8 bits packed into words, with a scale, and a zero where there is one, for each group of inputs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dspark_export.checkpoints.quantised.scheme import Raw, Scheme, groups, unpack
from dspark_export.checkpoints.tensors import Array, Shape

WORD = 32


class CompressedPacked(Scheme):
    """compressed-tensors `pack-quantized`: [out, in] packed along the inputs, signed numbers moved up by half."""

    marker = "weight_packed"
    parts = ("weight_packed", "weight_scale", "weight_shape")
    optional = ("weight_zero_point", "weight_g_idx")

    def __init__(self, bits: int) -> None:
        self.bits, self.name = bits, f"compressed-tensors, {bits} bits"

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        out, words = shapes["weight_packed"]
        return out, words * (WORD // self.bits)

    def load(self, raw: Raw, found: frozenset[str]) -> Array:
        if "weight_g_idx" in found:
            raise ValueError("activation order (weight_g_idx) is not supported")
        rows, columns = (int(size) for size in raw("weight_shape"))
        values = unpack(raw("weight_packed"), self.bits, 1)
        if values.shape != (rows, columns):
            raise ValueError(f"{list(values.shape)} packed numbers for a weight of [{rows}, {columns}]")
        half = 1 << (self.bits - 1)
        weight = (values - half).astype(np.float32)
        if "weight_zero_point" in found:
            zeros = unpack(raw("weight_zero_point"), self.bits, 0)[:rows] - half
            weight -= groups(zeros.astype(np.float32), columns)
        weight *= groups(raw("weight_scale").astype(np.float32), columns)
        return weight


class _ByGroupsOfInputs(Scheme):
    """`qweight`, `qzeros` and `scales`, laid out [in, out]."""

    marker = "qweight"
    parts = ("qweight", "qzeros", "scales")

    def __init__(self, bits: int, title: str) -> None:
        self.bits, self.per_word, self.name = bits, WORD // bits, f"{title}, {bits} bits"


class Awq(_ByGroupsOfInputs):
    """AWQ's `gemm` layout: packed along the outputs, the eight numbers of a word in the order 0 2 4 6 1 3 5 7."""

    ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
    """Where number i of a word stands in it."""

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        inputs, words = shapes["qweight"]
        return words * self.per_word, inputs

    def load(self, raw: Raw, found: frozenset[str]) -> Array:
        weight = self._numbers(raw, "qweight").astype(np.float32)
        zeros, scales = self._numbers(raw, "qzeros"), raw("scales").astype(np.float32)
        weight -= groups(zeros.T.astype(np.float32), len(weight)).T
        weight *= groups(scales.T, len(weight)).T
        return np.ascontiguousarray(weight.T)

    def _numbers(self, raw: Raw, part: str) -> Array:
        values = unpack(raw(part), self.bits, 1)
        return np.asarray(values.reshape(len(values), -1, self.per_word)[:, :, self.ORDER].reshape(len(values), -1))


class Gptq(_ByGroupsOfInputs):
    """GPTQ: packed along the inputs; its first format stores zeros less one; `g_idx` says each input's group."""

    optional = ("g_idx",)

    def __init__(self, bits: int, first_format: bool) -> None:
        super().__init__(bits, "GPTQ")
        self.less = int(first_format)

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        words, outputs = shapes["qweight"]
        return outputs, words * self.per_word

    def load(self, raw: Raw, found: frozenset[str]) -> Array:
        weight, scales = unpack(raw("qweight"), self.bits, 0).astype(np.float32), raw("scales").astype(np.float32)
        zeros = (unpack(raw("qzeros"), self.bits, 1) + self.less).astype(np.float32)
        inputs = len(weight)
        group = raw("g_idx").astype(np.int64) if "g_idx" in found else np.arange(inputs) * len(scales) // inputs
        if len(group) != inputs or group.min() < 0 or group.max() >= len(scales):
            raise ValueError(f"g_idx names groups beyond the {len(scales)} that have scales")
        weight -= zeros[group]
        weight *= scales[group]
        return np.ascontiguousarray(weight.T)
