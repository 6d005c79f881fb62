"""DeepSpec's drafters for Gemma 4, as they are read. `bad_gemma4` has what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import DrafterSpec, open_drafter
from dspark_export.checkpoints.converting import LAYOUTS, convert_drafter
from dspark_export.checkpoints.dialects import drafter_dialect
from dspark_export.checkpoints.dialects.deepspec import read_deepspec_spec
from dspark_export.graphs.rope import inverse_frequencies
from tests.support import tiny
from tests.support.gemma4_drafters import BFLOAT16, RELEASED, TINY, WITHOUT_HEADS, write_gemma4_drafter

TABLES = frozenset(("embed_tokens.weight", "lm_head.weight"))
CONFIG = Path("config.json")
GEMMA4_TARGET = replace(tiny.target_spec(), embedding_scale=7.0)


def read(**keys: object) -> DrafterSpec:
    return read_deepspec_spec(CONFIG, TINY | keys, TABLES)


def test_the_released_config_is_read() -> None:
    spec = read_deepspec_spec(CONFIG, RELEASED, TABLES)
    layer = spec.shape.usual_layer
    assert layer is not None
    assert (spec.shape.num_layers, layer.num_heads, layer.num_kv_heads, layer.head_dim) == (5, 16, 1, 512)
    assert (layer.scale, layer.activation, layer.window, layer.qk_norm) == (1.0, "gelu_tanh", 0, True)
    assert (layer.sandwich, layer.value_norm, layer.shared_values, layer.layer_scalar) == (True,) * 4
    assert (spec.target_layer_ids, spec.block_size, spec.mask_token_id) == ((5, 17, 29, 41, 46), 7, 4)
    assert (spec.markov.kind, spec.markov.rank, spec.confidence.with_markov) == ("vanilla", 256, True)
    assert (spec.embedding_scale, spec.logit_softcap, spec.anchor) == (math.sqrt(3840), 30.0, "predicts")


def test_64_of_256_pairs_turn() -> None:
    """Frequencies are of the whole head of 512, and all the others are 0: there are as many as pairs."""
    layer = read_deepspec_spec(CONFIG, RELEASED, TABLES).shape.layers[0]
    found = inverse_frequencies(layer.rope, layer.head_dim)
    np.testing.assert_allclose(found[:64], 1e6 ** (-np.arange(64) / 256))
    assert found[64:].tolist() == [0.0] * 192


def test_flat_rope_keys_beside_those_of_the_kinds_mean_nothing() -> None:
    rope = {"full_attention": TINY["rope_parameters"]["full_attention"]}
    flat = {"rope_theta": 5.0, "rope_type": "linear", "factor": 8.0, "partial_rotary_factor": 0.5}
    assert read() == read(rope_parameters=rope) == read(rope_parameters=rope | flat) == read(rope_parameters=None)
    assert read() == read(partial_rotary_factor=0.5, use_sliding_window=True)


def test_heads_are_those_of_full_layers() -> None:
    shared, own = read().shape.layers[0], read(attention_k_eq_v=False).shape.layers[0]
    assert (shared.head_dim, shared.num_kv_heads, shared.shared_values) == (32, 1, True)
    assert (own.head_dim, own.num_kv_heads, own.shared_values) == (32, 2, False)  # E4B
    assert read(attention_k_eq_v=False, num_global_key_value_heads=None).shape.layers[0] == own


@pytest.mark.parametrize("model_type", ["gemma4_text", "gemma4_unified_text", "qwen3", None])
def test_the_architecture_decides_not_the_model_type(model_type: str | None, tmp_path: Path) -> None:
    assert read(model_type=model_type) == read()
    qwen3 = tiny.write_drafter(tmp_path)
    tiny.edit_config(qwen3, model_type=model_type)
    assert open_drafter(qwen3, tiny.target_spec()).spec == tiny.drafter_spec()


def test_without_heads_it_is_dflash_anchor_first(tmp_path: Path) -> None:
    keys = {"markov_head_type": ..., "confidence_head_with_markov": ...} | WITHOUT_HEADS
    config = {"markov_head_type": "vanilla", "confidence_head_with_markov": False} | WITHOUT_HEADS
    folder = write_gemma4_drafter(tmp_path, **config)
    tiny.edit_config(folder, **{key: None for key, value in keys.items() if value is ...})
    spec = open_drafter(folder, tiny.target_spec()).spec
    assert (spec.markov.kind, spec.confidence.enabled, spec.draft_length) == ("none", False, tiny.BLOCK)


@pytest.mark.parametrize(("dtype", "scale"), [(np.float32, float(np.float32(math.sqrt(48)))), (BFLOAT16, 6.9375)])
def test_the_scale_is_rounded_as_the_table_is_stored(dtype: type, scale: float, tmp_path: Path) -> None:
    folder = write_gemma4_drafter(tmp_path, dtype=dtype)
    assert drafter_dialect(folder).name == "DeepSpec"
    assert open_drafter(folder, tiny.target_spec()).spec.embedding_scale == scale


def test_the_target_s_table_has_the_target_s_scale(tmp_path: Path) -> None:
    spec = open_drafter(write_gemma4_drafter(tmp_path, without=tuple(TABLES)), GEMMA4_TARGET).spec
    assert (spec.own_embedding, spec.own_head, spec.embedding_scale) == (False, False, 7.0)
    assert spec.logit_softcap == TINY["final_logit_softcapping"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_is_converted_to_no_layout(layout: str, tmp_path: Path) -> None:
    target, drafter = tiny.write_target(tmp_path / "target"), write_gemma4_drafter(tmp_path / "drafter")
    with pytest.raises(CheckpointError, match="a drafter with Gemma 4's layers, which is written in no layout"):
        convert_drafter(drafter, target, layout, tmp_path / "out", lambda *_: None)
    assert not (tmp_path / "out").exists()
