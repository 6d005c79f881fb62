"""YaRN in GGUF: cosines and sines are those of ggml's rope_yarn with what llama.cpp gives it, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import RopeSpec, open_target
from dspark_export.graphs.rope import rope_tables
from tests.support.tiny_gguf import write_gguf_target

HEAD_DIM, POSITIONS, THETA, CONTEXT = 16, 300, 1e4, 256
YARN = {"type": "yarn", "factor": 8.0, "original_context_length": 64}


def changes(scaling: dict[str, Any]) -> dict[str, Any]:
    return {f"llama.rope.scaling.{key}": value for key, value in scaling.items()}


def rope_of(path: Path, scaling: dict[str, Any]) -> RopeSpec:
    return open_target(write_gguf_target(path / "model.gguf", **changes(scaling))).spec.shape.layers[0].rope


def get_mscale(scale: float, mscale: float) -> float:
    """llama-context.cpp."""
    return 1.0 if scale <= 1 else 0.1 * mscale * math.log(scale) + 1.0


def corr_dim(turns: float, original: int) -> float:
    """ggml_rope_yarn_corr_dim."""
    return HEAD_DIM * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(THETA))


def tables_of_ggml(scaling: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """cos and sin [positions, pairs]: llama_context's constructor, ggml_rope_cache_init and rope_yarn, pair by pair."""
    factor, original = scaling["factor"], scaling.get("original_context_length", CONTEXT)
    attn_factor = get_mscale(factor, 1.0)
    if log_mul := scaling.get("yarn_log_multiplier", 0.0):
        attn_factor = get_mscale(factor, 1.0) / get_mscale(factor, log_mul)
    attn_factor *= 1 / (1 + 0.1 * math.log(factor)) * scaling.get("attn_factor", 1.0)
    low = max(0, math.floor(corr_dim(scaling.get("yarn_beta_fast", 32.0), original)))
    high = min(HEAD_DIM - 1, math.ceil(corr_dim(scaling.get("yarn_beta_slow", 1.0), original)))
    cosines, sines = np.empty((2, POSITIONS, HEAD_DIM // 2))
    for position in range(POSITIONS):
        for pair in range(HEAD_DIM // 2):
            extrapolated = position * THETA ** (-2 * pair / HEAD_DIM)
            mix = 1 - min(1.0, max(0.0, (pair - low) / max(0.001, high - low)))
            theta = extrapolated / factor * (1 - mix) + extrapolated * mix
            mscale = attn_factor * (1 + 0.1 * math.log(factor))
            cosines[position, pair], sines[position, pair] = math.cos(theta) * mscale, math.sin(theta) * mscale
    return cosines, sines


SCALINGS: dict[str, dict[str, Any]] = {
    "YaRN": YARN,
    "the context's length for the original": {"type": "yarn", "factor": 4.0},
    "a factor below 1": YARN | {"factor": 0.5},
    "an attention factor": YARN | {"attn_factor": 1.25},
    "a multiplier of the logarithm": YARN | {"yarn_log_multiplier": 0.7},
    "no magnitude": YARN | {"yarn_log_multiplier": 1.0},
    "other turns": YARN | {"yarn_beta_fast": 8.0, "yarn_beta_slow": 0.5},
    "a long original": YARN | {"original_context_length": 4096},
    "what the converter writes besides": YARN | {"yarn_attn_factor": 1.2079442, "yarn_ext_factor": 1.0},
    "an extrapolation that is not set": YARN | {"yarn_ext_factor": -1.0, "yarn_log_multiplier": 0.0},
}


@pytest.mark.parametrize("case", SCALINGS)
def test_tables_are_ggml_s(tmp_path: Path, case: str) -> None:
    rope = rope_of(tmp_path, SCALINGS[case])
    assert (rope.kind, rope.factor) == ("yarn", SCALINGS[case]["factor"])
    ours, theirs = rope_tables(rope, HEAD_DIM, POSITIONS), tables_of_ggml(SCALINGS[case])
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scaling", [{}, {"type": "linear", "factor": 4.0}, {"type": "none"}], ids=str)
def test_an_attention_factor_counts_for_every_type(tmp_path: Path, scaling: dict[str, Any]) -> None:
    rope = rope_of(tmp_path, scaling | {"attn_factor": 1.25})
    assert rope.attention_factor == 1.25
    assert rope.kind == ("linear" if "factor" in scaling else "default")


def test_a_factor_of_nothing_is_no_scaling(tmp_path: Path) -> None:
    assert rope_of(tmp_path, YARN | {"factor": 0.0}) == RopeSpec(THETA)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "YaRN without a factor": (
        {"type": "yarn"},
        "llama.rope.scaling.type is 'yarn', and there is no llama.rope.scaling.factor",
    ),
    "linear without a factor": ({"type": "linear"}, "llama.rope.scaling.type is 'linear', and there is no"),
    "a negative factor": (YARN | {"factor": -2.0}, "the factor of rope scaling is -2.0"),
    "no original positions": (YARN | {"original_context_length": 0}, "original_context_length is 0"),
    "turns the wrong way round": (YARN | {"yarn_beta_slow": 40.0}, "yarn_beta_fast is 32.0, and yarn_beta_slow 40.0"),
    "no turns": (YARN | {"yarn_beta_fast": 0.0}, "yarn_beta_fast is 0.0"),
    "an attention factor of 0": (YARN | {"attn_factor": 0.0}, "attn_factor is 0.0"),
    "another magnitude": (YARN | {"yarn_attn_factor": 1.0}, "yarn_attn_factor is 1.0, and 1.20794 is followed"),
    "less of it": (YARN | {"yarn_ext_factor": 0.5}, "yarn_ext_factor is 0.5, and 1 is followed"),
    "a multiplier that is text": (YARN | {"yarn_log_multiplier": "one"}, "yarn_log_multiplier is 'one'"),
    "a negative multiplier": (YARN | {"yarn_log_multiplier": -1.0}, "yarn_log_multiplier is -1.0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_by_name(tmp_path: Path, case: str) -> None:
    scaling, said = REFUSED[case]
    with pytest.raises(CheckpointError) as caught:
        rope_of(tmp_path, scaling)
    assert said in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert caught.value.hint
