"""Gemma 4 in GGUF, as llama.cpp's converter writes it and its loader reads it (conversion/gemma.py `Gemma4Model`,
src/models/gemma4.cpp; E2B, E4B, 12B, 31B and 26B-A4B are one architecture there).

Norms lie as they are, without the one that Gemma 3's have. Keys without an ending are of full layers, those in `_swa`
of sliding ones. Which layers have values, experts and scalars no key says: their tensors do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dspark_export.checkpoints import ExpertSpec, LayerSpec, RopeSpec
from dspark_export.checkpoints.expert_config import gguf_expert_spec
from dspark_export.checkpoints.gguf_counts import not_negative
from dspark_export.checkpoints.seams.gguf_layout import HEAD_NORMS, LAYER, SANDWICH_NORMS, GgufLayout
from dspark_export.families.gemma4.gguf_keys import (
    check_head,
    sharing_layers,
    sliding_pattern,
    still_pairs,
)
from dspark_export.families.llama import TOP

if TYPE_CHECKING:
    from dspark_export.checkpoints.gguf_file import GgufFile

NAME = "gemma4"
TABLES = {
    "per_layer_token_embd": "embed_tokens_per_layer",
    "per_layer_model_proj": "per_layer_model_projection",
    "per_layer_proj_norm": "per_layer_projection_norm",
}
PER_LAYER = {
    "inp_gate": "per_layer_input_gate",
    "proj": "per_layer_projection",
    "post_norm": "post_per_layer_input_norm",
}
PARALLEL = {
    "ffn_gate_inp": "router.proj",
    "ffn_gate_exps": "experts.gate_proj",
    "ffn_up_exps": "experts.up_proj",
    "ffn_down_exps": "experts.down_proj",
    "post_ffw_norm_1": "post_feedforward_layernorm_1",
    "pre_ffw_norm_2": "pre_feedforward_layernorm_2",
    "post_ffw_norm_2": "post_feedforward_layernorm_2",
}
GEMMA4 = GgufLayout(
    architecture=NAME,
    top=TOP | TABLES,
    layer=LAYER | HEAD_NORMS | SANDWICH_NORMS | PER_LAYER | PARALLEL,
    whole={
        "layer_output_scale.weight": "layer_scalar",
        "ffn_gate_inp.scale": "router.scale",
        "ffn_down_exps.scale": "router.per_expert_scale",
        "ffn_gate_up_exps.weight": "experts.gate_up_proj",
    },
    permuted=False,
    qk_norm=True,
)
SLIDING_THETA = 10000.0
"""llama.cpp's (src/llama-hparams.h), where a file says none."""


def gemma4_layers(file: GgufFile, layers: tuple[LayerSpec, ...]) -> tuple[LayerSpec, ...]:
    """Raises `CheckpointError` for keys that llama.cpp's converter does not write together."""
    pattern = sliding_pattern(file, NAME, len(layers))
    common = [replace(layer, **_facts(file, pattern)) for layer in layers]
    full, sliding = _full(file, layers[0], pattern), _sliding(file)
    kinds = [replace(layer, **(sliding if slides else full)) for layer, slides in zip(common, pattern, strict=True)]
    return sharing_layers(file, f"{NAME}.attention.shared_kv_layers", kinds)


def gemma4_facts(file: GgufFile) -> dict[str, Any]:
    """Scales as llama.cpp has them: roots in float32, which transformers rounds to the weights' type."""
    width = not_negative(file, f"{NAME}.embedding_length_per_layer_input")
    facts = {
        "embedding_scale": math.sqrt(file.count(f"{NAME}.embedding_length")),
        "logit_softcap": file.get(f"{NAME}.final_logit_softcapping", 0.0),
    }
    return facts | ({"per_layer_scale": math.sqrt(width)} if width else {})


def _facts(file: GgufFile, pattern: Sequence[bool]) -> dict[str, Any]:
    """What layers of both kinds have."""
    depth = len(pattern)
    return {
        "scale": 1.0,
        "activation": "gelu_tanh",
        "sandwich": True,
        "value_norm": True,
        "per_layer_input": not_negative(file, f"{NAME}.embedding_length_per_layer_input"),
        "layer_scalar": any(f"blk.{i}.layer_output_scale.weight" in file.shapes for i in range(depth)),
        "experts": _experts(file, depth),
    }


def _full(file: GgufFile, layer: LayerSpec, pattern: Sequence[bool]) -> dict[str, Any]:
    """Full layers take their keys for values where no one of them has a projection of its own."""
    check_head(file, NAME, "", layer.head_dim)
    own = [f"blk.{i}.attn_v.weight" in file.shapes for i, slides in enumerate(pattern) if not slides]
    return {"rope": still_pairs(file, NAME, layer.rope), "shared_values": not any(own)} if own else {}


def _sliding(file: GgufFile) -> dict[str, Any]:
    width = file.count(f"{NAME}.attention.key_length_swa")
    check_head(file, NAME, "_swa", width)
    return {
        "head_dim": width,
        "rope": RopeSpec(file.positive(f"{NAME}.rope.freq_base_swa", SLIDING_THETA)),
        "window": file.count(f"{NAME}.attention.sliding_window"),
    }


def _experts(file: GgufFile, depth: int) -> ExpertSpec | None:
    """The experts of every layer, parallel to its MLP, where the file has routers."""
    if not any(f"blk.{i}.ffn_gate_inp.weight" in file.shapes for i in range(depth)):
        return None
    width = file.count(f"{NAME}.expert_feed_forward_length")
    return gguf_expert_spec(file, NAME, renormalised=True, parallel_width=width)
