"""Weights of 8 bits, each times a scale: FP8 (E4M3) and INT8, by tile, by line or one for all."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dspark_export.checkpoints.quantised.scheme import Raw, Scheme
from dspark_export.checkpoints.tensors import Array, Shape


class TileScaled(Scheme):
    """`quant_method` fp8 with `weight_block_size`: value times the scale of its tile (DeepSeek-V3, Qwen3-FP8)."""

    marker = "weight_scale_inv"
    parts = ("weight", "weight_scale_inv")

    def __init__(self, tile: tuple[int, int]) -> None:
        self.tile, self.name = tile, f"FP8, tiles of {tile[0]} by {tile[1]}"

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        return shapes["weight"]

    def load(self, raw: Raw, found: frozenset[str]) -> Array:
        weight, scale = raw("weight").astype(np.float32), raw("weight_scale_inv").astype(np.float32)
        tiles = tuple(-(-size // extent) for size, extent in zip(weight.shape, self.tile, strict=True))
        if scale.shape != tiles:
            raise ValueError(f"scales {list(scale.shape)} for {list(tiles)} tiles")
        for row in range(tiles[0]):  # a band at a time: the scales of all would be as large as the weight
            band = slice(row * self.tile[0], (row + 1) * self.tile[0])
            weight[band] *= np.repeat(scale[row], self.tile[1])[: weight.shape[1]]
        return weight


class LineScaled(Scheme):
    """compressed-tensors `float-quantized` and `int-quantized`: value times its line's scale, or the one of all."""

    marker = "weight_scale"
    parts = ("weight", "weight_scale")
    optional = ("weight_zero_point",)

    def __init__(self, kind: str) -> None:
        self.name = f"{kind}, a scale a line"

    def shape(self, shapes: Mapping[str, Shape]) -> Shape:
        return shapes["weight"]

    def load(self, raw: Raw, found: frozenset[str]) -> Array:
        weight, scale = raw("weight").astype(np.float32), raw("weight_scale").astype(np.float32)
        if scale.size not in (1, len(weight)):
            raise ValueError(f"{scale.size} scales for {len(weight)} lines")
        if "weight_zero_point" in found:
            weight -= raw("weight_zero_point").astype(np.float32).reshape(-1, 1)
        weight *= scale.reshape(-1, 1)
        return weight
