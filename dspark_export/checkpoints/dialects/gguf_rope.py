"""Rotary embedding in GGUF files, as llama.cpp's loader and its op ggml_rope_ext have it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.gguf_file import CONVERT_AGAIN, GgufFile
from dspark_export.checkpoints.rope_config import yarn_magnitude
from dspark_export.checkpoints.spec import RopeSpec

ROPE_FREQS = "rope_freqs.weight"
"""A divisor for every rotary frequency, written for Llama 3.1 and later in place of rope scaling's parameters."""
DIRECTORY = "point at the Hugging Face directory of the same model, if its rope type is one of docs/families.md"
MOST_APART = 1e-4
"""Of two magnitudes that were meant to be one, relatively: float32, and digits in a config."""


def read_gguf_rope(file: GgufFile, name: str, head_dim: int) -> RopeSpec:
    """The keys `NAME.rope.…`. Raises `CheckpointError` for heads that are turned in part, and for scaling that is not
    followed or has no factor.

    As llama.cpp's loader (llama-model.cpp, load_hparams): a scaling without a type is linear, one of type "none" scales
    nothing, whatever its factor; a factor of 0 is none; the factor's old name is still read. Cosines and sines of every
    type are multiplied by `attn_factor`. Only a type without a factor, which is no scaling there, is refused.
    """
    _check_whole(file, name, head_dim)
    kind = file.get(f"{name}.rope.scaling.type", "linear")
    if kind not in ("linear", "none", "yarn"):
        raise CheckpointError(f"{file.path}: rope scaling '{kind}' is not supported from GGUF", hint=DIRECTORY)
    factor = 0.0 if kind == "none" else _factor(file, name)
    plain = RopeSpec(
        file.positive(f"{name}.rope.freq_base", 10000.0),
        attention_factor=file.positive(f"{name}.rope.scaling.attn_factor", 1.0),
        divisors=_divisors(file, head_dim),
    )
    if not factor:
        return plain
    return _yarn(file, name, plain, factor) if kind == "yarn" else replace(plain, kind="linear", factor=factor)


def _check_whole(file: GgufFile, name: str, head_dim: int) -> None:
    rotary = file.count(f"{name}.rope.dimension_count", head_dim)
    if rotary != head_dim:
        raise CheckpointError(
            f"{file.path}: {name}.rope.dimension_count is {rotary}, only whole heads of {head_dim} can be rotated",
            hint="models with partial rotary embedding are not supported",
        )


def _factor(file: GgufFile, name: str) -> float:
    """0 where nothing is said of scaling. Raises `CheckpointError` for a type alone, which says too little."""
    factor, kind = file.get(f"{name}.rope.scaling.factor"), file.get(f"{name}.rope.scaling.type")
    if factor is None:
        factor = file.get(f"{name}.rope.scale_linear")
    if factor is None and kind is not None:
        raise CheckpointError(
            f"{file.path}: {name}.rope.scaling.type is '{kind}', and there is no {name}.rope.scaling.factor",
            hint=CONVERT_AGAIN,
        )
    if factor and not (isinstance(factor, float) and 0 < factor < float("inf")):
        raise CheckpointError(f"{file.path}: the factor of rope scaling is {factor!r:.60}", hint=CONVERT_AGAIN)
    return factor or 0.0


def _yarn(file: GgufFile, name: str, plain: RopeSpec, factor: float) -> RopeSpec:
    """The ramp between whole pairs, as ggml_rope_yarn_corr_dims counts them.

    llama.cpp reads `yarn_beta_…` and `yarn_log_multiplier` for some architectures; here they count for all.
    """
    keys = f"{name}.rope.scaling"
    rope = replace(
        plain,
        kind="yarn",
        factor=factor,
        original_max_positions=file.count(f"{keys}.original_context_length", file.count(f"{name}.context_length")),
        beta_fast=file.positive(f"{keys}.yarn_beta_fast", plain.beta_fast),
        beta_slow=file.positive(f"{keys}.yarn_beta_slow", plain.beta_slow),
        attention_factor=plain.attention_factor * _magnitude(file, keys, factor),
    )
    if rope.beta_fast <= rope.beta_slow:
        raise CheckpointError(
            f"{file.path}: {keys}.yarn_beta_fast is {rope.beta_fast}, and yarn_beta_slow {rope.beta_slow}",
            hint=CONVERT_AGAIN,
        )
    return rope


def _magnitude(file: GgufFile, keys: str, factor: float) -> float:
    """What YaRN multiplies by: 1 + 0.1 ln(factor), over the same with `yarn_log_multiplier` before the logarithm.

    llama.cpp (llama-context.cpp, the constructor) takes no notice of `yarn_attn_factor`, nor do most architectures of
    `yarn_ext_factor`, below 0 where it is not set. Raises `CheckpointError` where these say something else.
    """
    multiplier = _said(file, f"{keys}.yarn_log_multiplier", 0.0)
    if not 0 <= multiplier < math.inf:
        raise CheckpointError(f"{file.path}: {keys}.yarn_log_multiplier is {multiplier}", hint=CONVERT_AGAIN)
    magnitude = yarn_magnitude(factor, 1.0) / yarn_magnitude(factor, multiplier)
    for key, followed in {"yarn_attn_factor": magnitude, "yarn_ext_factor": 1.0}.items():
        value = _said(file, f"{keys}.{key}", followed)
        unset = key == "yarn_ext_factor" and value < 0
        if not unset and not math.isclose(value, followed, rel_tol=MOST_APART):
            raise CheckpointError(
                f"{file.path}: {keys}.{key} is {value}, and {followed:.6g} is followed", hint=DIRECTORY
            )
    return magnitude


def _said(file: GgufFile, key: str, default: float) -> float:
    return default if file.get(key) is None else file.require(key, float)


def _divisors(file: GgufFile, head_dim: int) -> tuple[float, ...]:
    if ROPE_FREQS not in file.shapes:
        return ()
    values = file.load(ROPE_FREQS).ravel()
    if len(values) != head_dim // 2 or not (np.isfinite(values) & (values > 0)).all():
        raise CheckpointError(
            f"{file.path}: {ROPE_FREQS} does not hold {head_dim // 2} positive numbers, half a head's width",
            hint=CONVERT_AGAIN,
        )
    return tuple(values.tolist())
