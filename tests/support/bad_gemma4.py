"""DeepSpec's drafters for Gemma 4 that must be refused, each with what the error's line says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.command_line import Case, Place, edit_tensors
from tests.support.gemma4_drafters import write_gemma4_drafter

ROPE = {"rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.25}
REQUIRED_KEYS = (
    "hidden_activation", "global_head_dim", "attention_k_eq_v", "enable_moe_block", "hidden_size_per_layer_input",
    "num_global_key_value_heads", "num_key_value_heads", "layer_types", "block_size",
)  # fmt: skip


def drafter(fragment: str, change: Callable[[Path], Any] = lambda _: None, **keys: Any) -> Case:
    """One with these keys, after `change`; None removes a key."""

    def prepare(place: Place) -> list[str]:
        folder = write_gemma4_drafter(place.root / "drafter", **keys)
        change(folder)
        return place.build(drafter=folder)

    return Case(prepare, fragment)


def config(fragment: str, **keys: Any) -> Case:
    """One whose config.json is what is wrong."""
    return drafter(f"drafter/config.json: {fragment}", **keys)


def without(name: str, **keys: Any) -> Case:
    """One that lacks a tensor."""
    return drafter(f"missing tensor '{name}'", lambda folder: edit_tensors(folder, lambda t: t.pop(name)), **keys)


def unknown(name: str, *shape: int) -> Case:
    """One that has a tensor too many."""
    more = {name: np.zeros(shape, np.float32)}
    return drafter(f"unknown tensor '{name}'", lambda folder: edit_tensors(folder, lambda t: t.update(more)))


GEMMA4 = {
    "gemma4 drafter: a target of another class": drafter(
        "drafter: trained for gemma4_unified, gemma4_unified_text, and this target is a LlamaForCausalLM",
        target_model_type="gemma4_unified",
        target_text_model_type="gemma4_unified_text",
    ),
    "gemma4 drafter: a model type that is no name": config(
        "target_model_type: Input should be a valid string", target_model_type=4
    ),
    "gemma4 drafter: experts": config("enable_moe_block: Input should be False", enable_moe_block=True),
    "gemma4 drafter: inputs for every layer": config(
        "hidden_size_per_layer_input: Input should be 0", hidden_size_per_layer_input=8
    ),
    "gemma4 drafter: a double-wide MLP": config("use_double_wide_mlp: Input should be False", use_double_wide_mlp=True),
    "gemma4 drafter: biases": config("attention_bias: Input should be False", attention_bias=True),
    "gemma4 drafter: another activation": config(
        "hidden_activation: Input should be 'gelu_py", hidden_activation="silu"
    ),
    "gemma4 drafter: layers that slide": config(
        "layer_types.0: Input should be 'full_attention'", layer_types=["sliding_attention", "full_attention"]
    ),
    "gemma4 drafter: a softcap of 0": config(
        "final_logit_softcapping: Input should be greater", final_logit_softcapping=0
    ),
    "gemma4 drafter: rope of no layer": config(
        "rope_parameters: has no entry 'full_attention'", rope_parameters={"rope_theta": 1e6}
    ),
    "gemma4 drafter: rope that is unknown": config(
        "rope_parameters.full_attention.rope_type: Input should be",
        rope_parameters={"full_attention": ROPE | {"rope_type": "yarn"}},
    ),
    "gemma4 drafter: rope without a base": config(
        "missing key 'rope_parameters.full_attention.rope_theta'",
        rope_parameters={"full_attention": {"rope_type": "proportional"}},
    ),
    "gemma4 drafter: heads do not divide": config(
        "num_attention_heads 4 is not a multiple", num_global_key_value_heads=3
    ),
    "gemma4 drafter: no layer scalar": without("layers.1.layer_scalar"),
    "gemma4 drafter: no values": without("layers.0.self_attn.v_proj.weight", attention_k_eq_v=False),
    "gemma4 drafter: values too many": unknown("layers.0.self_attn.v_proj.weight", 32, 48),
    "gemma4 drafter: a gain of values": unknown("layers.0.self_attn.v_norm.weight", 32),
    "gemma4 drafter: no second norm": without("layers.0.post_feedforward_layernorm.weight"),
    "gemma4 drafter: no embedding for another target": drafter(
        "has no embedding of its own, and multiplies its rows",
        lambda folder: edit_tensors(folder, lambda t: t.pop("embed_tokens.weight")),
    ),
    **{f"gemma4 drafter: no {key}": config(f"missing key '{key}'", **{key: ...}) for key in REQUIRED_KEYS},
}
