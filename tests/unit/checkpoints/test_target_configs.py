"""What a config leaves out, or says twice, means what transformers takes it for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dspark_export.checkpoints.dialects.hugging_face import read_hf_target
from dspark_export.checkpoints.seams import get_family
from dspark_export.checkpoints.seams.family import FAMILIES
from tests.support import tiny

transformers = pytest.importorskip("transformers")
CLASSES = {"llama": "LlamaConfig", "qwen3": "Qwen3Config"}
ALL_CLASSES = CLASSES | {"mistral": "MistralConfig", "qwen2": "Qwen2Config", "gemma3": "Gemma3TextConfig"}
ALL_CLASSES |= {"qwen3_moe": "Qwen3MoeConfig", "gpt_oss": "GptOssConfig", "gemma4": "Gemma4TextConfig"}
ALL_CLASSES["gemma4_unified"] = "Gemma4UnifiedTextConfig"
NOT_THEIRS = {  # keys that their classes have under another name, keep elsewhere or do not have
    "gemma3": {"hidden_act"},
    "gemma4": {"global_head_dim"},
    "gemma4_unified": {
        "global_head_dim", "enable_moe_block", "hidden_size_per_layer_input", "vocab_size_per_layer_input"},
}  # fmt: skip
LINEAR = {"rope_type": "linear", "factor": 4.0}
ROPES: dict[str, dict[str, Any]] = {
    "theta alone": {"rope_theta": 5e5},
    "nothing": {},
    "parameters without theta": {"rope_parameters": {"rope_type": "default"}},
    "parameters": {"rope_parameters": LINEAR | {"rope_theta": 7.0}},
    "oldest": {"rope_scaling": {"type": "linear", "factor": 4.0}, "rope_theta": 9.0},
    "both, the older key wins": {
        "rope_parameters": LINEAR | {"rope_theta": 7.0},
        "rope_scaling": {"type": "linear", "factor": 2.0},
        "rope_theta": 9.0,
    },
    "two thetas": {"rope_scaling": LINEAR | {"rope_theta": 3.0}, "rope_theta": 9.0},
    "two types": {"rope_scaling": {"rope_type": "linear", "type": "llama3", "factor": 4.0}},
    "a factor without a type": {"rope_scaling": {"factor": 4.0}},
    "null": {"rope_scaling": None, "rope_theta": 5.0},
}


def oracle(architecture: str, **keys: Any) -> Any:
    return getattr(transformers, ALL_CLASSES[architecture])(**keys)


@pytest.mark.parametrize("architecture", FAMILIES)
def test_defaults_are_the_config_class_s(architecture: str) -> None:
    sizes: dict[str, Any] = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 8}
    windows = {"use_sliding_window": True} if "qwen" in architecture else {}  # without, they forget its width
    config = oracle(architecture, num_hidden_layers=1, **sizes, **windows)
    config.allow_global_per_layer_attribute_access = True  # of Gemma 4, whose layers have heads of two kinds
    ropes = config.rope_parameters
    full, sliding = ropes.get("full_attention", ropes), ropes.get("sliding_attention", {})
    bases = {"rope_theta": full.get("rope_theta"), "rope_local_base_freq": sliding.get("rope_theta")}
    for key, value in get_family(architecture).defaults.items():
        if key in NOT_THEIRS.get(architecture, ()):
            continue
        assert (bases[key] if key in bases else getattr(config, key)) == value, key


@pytest.mark.parametrize("architecture", CLASSES)
def test_a_config_of_the_first_llamas(tmp_path: Path, architecture: str) -> None:
    """No key-value heads, no head width, no base, no epsilon: Llama's own; Qwen3's class has numbers of its own."""
    shape: dict[str, Any] = {"num_heads": 32, "num_kv_heads": 32, "head_dim": 4 if architecture == "llama" else 128}
    spec = tiny.target_spec(architecture)
    spec = replace(spec, shape=replace(tiny.with_layers(spec.shape, **shape), hidden_size=128))
    folder = tiny.write_target(tmp_path, spec)
    dropped = ("num_key_value_heads", "head_dim", "rope_parameters", "rope_scaling", "rope_theta", "rms_norm_eps")
    tiny.edit_config(folder, **dict.fromkeys((*dropped, "max_position_embeddings", "hidden_act")))
    found, _ = read_hf_target(folder)
    layer = found.shape.layers[0]
    assert (layer.num_kv_heads, layer.head_dim) == (shape["num_kv_heads"], shape["head_dim"])
    assert layer.rope.theta == 10000.0
    assert found.max_positions == get_family(architecture).defaults["max_position_embeddings"]


@pytest.mark.parametrize("case", ROPES)
def test_rope_is_read_as_transformers_reads_it(tmp_path: Path, case: str) -> None:
    keys = ROPES[case]
    folder = tiny.write_target(tmp_path)
    tiny.edit_config(folder, **({"rope_parameters": None, "rope_scaling": None, "rope_theta": None} | keys))
    expected = oracle("llama", **{key: dict(v) if isinstance(v, dict) else v for key, v in keys.items()})
    expected = expected.rope_parameters
    rope = read_hf_target(folder)[0].shape.layers[0].rope
    assert (rope.kind, rope.theta) == (expected["rope_type"], expected["rope_theta"])
    assert rope.kind == "default" or rope.factor == expected["factor"]
