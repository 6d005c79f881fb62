"""Chains that were published: each config is read to what it should be, at its real sizes, or refused by name."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import DecoderShape, DrafterSpec, LayerSpec, RopeSpec, open_drafter
from dspark_export.checkpoints.spec import ChainSpec
from tests.support import chains, tiny
from tests.support.published_chains import NEBIUS, SPECFORGE, SPECULATORS, target_of, write_published

pytestmark = pytest.mark.filterwarnings("ignore:.*eagle_aux_hidden_state_layer_ids:UserWarning")
DEPTHS = {
    "deepseek-v3-671b": 61, "gemma3-1b": 26, "gemma4-26b-a4b": 30, "gpt-oss-120B": 36, "llama3-8B": 32,
    "qwen2.5-0.5b": 24, "qwen3-30B-A3B": 48, "qwen3-30B-A3B 3.1": 48, "qwen3-4b": 36, "qwen3-next-80b-a3b": 48,
    "qwen2.5-vl-7b": 28, "gemma-4-31B-it": 60, "gpt-oss-20b": 24, "Qwen3-8B, an old one": 36,
}  # fmt: skip
"""Layers of the targets."""
TAPS = {
    "deepseek-v3-671b": (1, 29, 57), "gemma3-1b": (1, 12, 22), "gemma4-26b-a4b": (4, 16, 28),
    "gpt-oss-120B": (0, 16, 32), "llama3-8B": (1, 15, 28), "qwen2.5-0.5b": (1, 11, 20),
    "qwen3-30B-A3B": (1, 23, 44), "qwen3-4b": (1, 17, 32), "qwen3-next-80b-a3b": (1, 23, 44),
}  # fmt: skip
"""Those of the plain layout; where a config names none, what the paper's code taps. That of gpt-oss-120B, [1, 17, 33],
is nobody's formula: like others it is taken for what enters layers, which vLLM does and SGLang does not, and a warning
says so."""


def shape(keys: dict[str, Any], theta: float) -> DecoderShape:
    """Llama's layer of these sizes."""
    heads = keys["num_attention_heads"]
    layer = LayerSpec(
        num_heads=heads,
        num_kv_heads=keys["num_key_value_heads"],
        head_dim=keys.get("head_dim", keys["hidden_size"] // heads),
        intermediate_size=keys["intermediate_size"],
        rope=RopeSpec(theta),
    )
    return DecoderShape(hidden_size=keys["hidden_size"], rms_norm_eps=keys["rms_norm_eps"], layers=(layer,))


def expected(
    name: str, config: dict[str, Any], keys: dict[str, Any], taps: tuple[int, ...], length: int, **chain: Any
) -> DrafterSpec:
    """A drafter of `keys`' layer with a head of its own, and tokens that `write_published` gives it."""
    drafted, vocab = config["draft_vocab_size"], keys["vocab_size"]
    theta = (keys.get("rope_parameters") or {}).get("rope_theta") or keys.get("rope_theta", 10000.0)
    return replace(
        chains.spec(),
        shape=shape(keys, float(theta)),
        vocab_size=vocab,
        block_size=length,
        target_layer_ids=taps,
        num_target_layers=DEPTHS[name],
        own_head=True,
        draft_vocabulary=tuple(range(drafted)) if drafted < vocab else (),
        chain=ChainSpec(kind="eagle3", **chain),
    )


@pytest.mark.parametrize("name", TAPS)
def test_specforge_s_configs_of_the_plain_layout(tmp_path: Path, name: str) -> None:
    config = SPECFORGE[name]
    spec = replace(expected(name, config, config, TAPS[name], 5), own_embedding=True)
    folder = write_published(tmp_path / "drafter", config, spec)
    assert open_drafter(folder, target_of(spec)).spec == spec


LIBRARY: dict[str, tuple[tuple[int, ...], int, dict[str, Any]]] = {
    "gemma-4-31B-it": ((1, 29, 56), 3, {"residual_normed": True}),
    "gpt-oss-20b": ((1, 11, 20), 5, {"residual_normed": True, "tap_norm": "whole"}),
    "Qwen3-8B, an old one": ((1, 17, 32), 5, {"residual_normed": True}),
}


@pytest.mark.parametrize("name", LIBRARY)
def test_drafters_of_the_speculators_library(tmp_path: Path, name: str) -> None:
    config, (taps, length, chain) = SPECULATORS[name], LIBRARY[name]
    spec = expected(name, config, config["transformer_layer_config"], taps, length, **chain)
    folder = write_published(tmp_path / "drafter", config, spec)
    assert open_drafter(folder, target_of(spec)).spec == spec


def test_a_drafter_that_calls_itself_a_llama(tmp_path: Path) -> None:
    """It turns as gpt-oss does."""
    spec = expected("gpt-oss-20b", NEBIUS, NEBIUS, (1, 11, 20), 5)
    rope = RopeSpec(150000, "yarn", 32.0, original_max_positions=4096, truncate=False)
    rope = replace(rope, attention_factor=0.1 * math.log(32) + 1)
    spec = replace(spec, shape=tiny.with_layers(spec.shape, rope=rope))
    folder = write_published(tmp_path / "drafter", NEBIUS, spec)
    assert open_drafter(folder, target_of(spec)).spec == spec


REFUSED = {
    "qwen3-30B-A3B 3.1": "norm_output: Input should be False",
    "qwen2.5-vl-7b": "found 'mrope'",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_followed_is_refused_by_its_key(tmp_path: Path, name: str) -> None:
    config = SPECFORGE[name]
    spec = expected(name, config, config, (1, 12, 22), 5)
    folder = write_published(tmp_path / "drafter", config, spec)
    with pytest.raises(CheckpointError) as caught:
        open_drafter(folder, target_of(spec))
    assert REFUSED[name] in str(caught.value)


def test_every_config_has_a_row() -> None:
    assert set(SPECFORGE) == {*TAPS, *REFUSED}
    assert set(SPECULATORS) == set(LIBRARY)
