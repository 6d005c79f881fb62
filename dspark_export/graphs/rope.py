"""Cosine and sine tables for rotary embedding, computed in float64 and stored as float32."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from dspark_export.checkpoints import RopeSpec
from dspark_export.checkpoints.tensors import Array


def rope_tables(rope: RopeSpec, head_dim: int, positions: int) -> tuple[Array, Array]:
    """cos and sin [positions, head_dim / 2] for the "rotate half" layout."""
    angles = np.arange(positions, dtype=np.float64)[:, None] * inverse_frequencies(rope, head_dim)[None, :]
    cosines, sines = rope.attention_factor * np.cos(angles), rope.attention_factor * np.sin(angles)
    return cosines.astype(np.float32), sines.astype(np.float32)


def inverse_frequencies(rope: RopeSpec, head_dim: int) -> npt.NDArray[np.float64]:
    """theta^(-2i/D), scaled as `rope.kind` says (`rope_scaling` of the Hugging Face config), over `rope.divisors`."""
    scaled = _scaled_frequencies(rope, head_dim)
    return scaled / np.array(rope.divisors) if rope.divisors else scaled


def _scaled_frequencies(rope: RopeSpec, head_dim: int) -> npt.NDArray[np.float64]:
    frequencies = rope.theta ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    if rope.kind == "linear":
        return frequencies / rope.factor
    if rope.kind == "llama3":
        return _llama3(rope, frequencies)
    if rope.kind == "yarn":
        return _yarn(rope, frequencies)
    return frequencies


def _llama3(rope: RopeSpec, frequencies: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Long wavelengths are stretched by `factor`, short ones kept, those between interpolated."""
    wavelengths = 2 * math.pi / frequencies
    cycles = rope.original_max_positions / wavelengths
    smooth = (cycles - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor)
    smooth = np.clip(smooth, 0.0, 1.0)
    return np.asarray((1 - smooth) * frequencies / rope.factor + smooth * frequencies)


def _yarn(rope: RopeSpec, frequencies: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Equations 16 to 18 of the paper: pairs that turn often stay, those that hardly turn are slowed by `factor`."""
    pairs = len(frequencies)
    first, last = (_pair_of(rope, turns, 2 * pairs) for turns in (rope.beta_fast, rope.beta_slow))
    if rope.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, 2 * pairs - 1)
    ramp = np.clip((np.arange(pairs) - first) / (last - first if last != first else 0.001), 0, 1)
    return np.asarray(ramp * frequencies / rope.factor + (1 - ramp) * frequencies)


def _pair_of(rope: RopeSpec, turns: float, head_dim: int) -> float:
    """Which pair of channels turns so often within the original positions."""
    return head_dim * math.log(rope.original_max_positions / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))
