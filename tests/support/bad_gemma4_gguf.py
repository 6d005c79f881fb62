"""GGUF files of Gemma 4 that must be refused, each with what the error's line says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.support import tiny
from tests.support.command_line import Case, Place
from tests.support.tiny_gemma4_gguf import write_gemma4_gguf

HEADS, KV_HEADS, WIDTH, WIDE, INNER, EACH = 4, 2, 16, 32, 64, 8
SLIDES = (True, False, True, False, True, False)
SHARED, FIRST = 2, 4
CONFIG: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": tiny.HIDDEN,
    "num_hidden_layers": len(SLIDES),
    "layer_types": ["sliding_attention" if slides else "full_attention" for slides in SLIDES],
    "num_kv_shared_layers": SHARED,
    "intermediate_size": INNER,
    "use_double_wide_mlp": True,
    "max_position_embeddings": 256,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": WIDTH,
    "per_layer_config": {
        str(i): {"head_dim": WIDE, "num_key_value_heads": 1} for i, slides in enumerate(SLIDES) if not slides
    },
    "rms_norm_eps": 1e-6,
    "sliding_window": 8,
    "hidden_size_per_layer_input": EACH,
    "final_logit_softcapping": 30.0,
    "tie_word_embeddings": True,
    "rope_parameters": {
        "full_attention": {"rope_theta": 1e6, "partial_rotary_factor": 0.25},
        "sliding_attention": {"rope_theta": 1e4},
    },
}
"""Keys for values on full layers; the last two take over keys, which the file holds all the same."""


def state() -> dict[str, np.ndarray]:
    """Random weights of `CONFIG`."""
    hidden, vocab, depth = CONFIG["hidden_size"], CONFIG["vocab_size"], len(SLIDES)
    shapes: dict[str, tuple[int, ...]] = {
        "embed_tokens.weight": (vocab, hidden),
        "norm.weight": (hidden,),
        "embed_tokens_per_layer.weight": (vocab, depth * EACH),
        "per_layer_model_projection.weight": (depth * EACH, hidden),
        "per_layer_projection_norm.weight": (EACH,),
    }
    for i in range(depth):
        shapes |= {f"layers.{i}.{name}": shape for name, shape in layer(i, hidden).items()}
    return {f"model.{name}": array for name, array in tiny.random_tensors(shapes).items()}


def layer(i: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """One layer's shapes."""
    width, kv_heads = (WIDTH, KV_HEADS) if SLIDES[i] else (WIDE, 1)
    inner = INNER * (2 if i >= FIRST else 1)
    norms = ("input", "post_attention", "pre_feedforward", "post_feedforward")
    shapes: dict[str, tuple[int, ...]] = {f"{name}_layernorm.weight": (hidden,) for name in norms}
    shapes |= {
        "self_attn.q_proj.weight": (HEADS * width, hidden),
        "self_attn.k_proj.weight": (kv_heads * width, hidden),
        "self_attn.o_proj.weight": (hidden, HEADS * width),
        "self_attn.q_norm.weight": (width,),
        "self_attn.k_norm.weight": (width,),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
        "per_layer_input_gate.weight": (EACH, hidden),
        "per_layer_projection.weight": (hidden, EACH),
        "post_per_layer_input_norm.weight": (hidden,),
        "layer_scalar": (1,),
    }
    return shapes | ({"self_attn.v_proj.weight": (kv_heads * width, hidden)} if SLIDES[i] else {})


def write(path: Path, *, more: dict[str, np.ndarray] | None = None, **changes: Any) -> Path:
    """The file; `more` are tensors by their names in transformers, `changes` as in `write_gemma4_gguf`."""
    named = {key if key == "lost" or "." in key else f"gemma4.{key}": value for key, value in changes.items()}
    return write_gemma4_gguf(path, CONFIG, state() | (more or {}), **named)


def refused(fragment: str, more: dict[str, np.ndarray] | None = None, **changes: Any) -> Case:
    """The file with these keys, as `write` has it."""

    def prepare(place: Place) -> list[str]:
        return place.build(target=write(place.root / "model.gguf", more=more, **changes))

    return Case(prepare, f"model.gguf: {fragment}")


def keyed(fragment: str, key: str, value: Any) -> Case:
    """The file with one key of `gemma4.` changed."""
    return refused(fragment.replace("KEY", f"gemma4.{key}"), **{f"gemma4.{key}": value})


def lost(name: str, named: str) -> Case:
    """The file without this tensor."""
    return refused(f"missing tensor '{named}'", lost=[name])


ROUTER = {"model.layers.1.router.proj.weight": np.zeros((3, tiny.HIDDEN), np.float32)}
EXPERTS = {"gemma4.expert_count": 3, "gemma4.expert_used_count": 4, "gemma4.expert_feed_forward_length": 8}
VALUES = {"model.layers.1.self_attn.v_proj.weight": np.zeros((WIDE, tiny.HIDDEN), np.float32)}
BREAKS = {"tokenizer.ggml.merges": ["t h"]}
CASES = {
    "gemma4 in GGUF: no pattern": keyed("missing key 'KEY'", "attention.sliding_window_pattern", None),
    "gemma4 in GGUF: a pattern of one": keyed("KEY is no list", "attention.sliding_window_pattern", 6),
    "gemma4 in GGUF: a pattern of numbers": keyed("KEY is no list", "attention.sliding_window_pattern", [1, 2, 1] * 2),
    "gemma4 in GGUF: a shorter pattern": keyed(
        "KEY has 2 entries for 6 layers", "attention.sliding_window_pattern", [True, False]
    ),
    "gemma4 in GGUF: no window": keyed("missing key 'KEY'", "attention.sliding_window", None),
    "gemma4 in GGUF: no width of sliding heads": keyed("missing key 'KEY'", "attention.key_length_swa", None),
    "gemma4 in GGUF: other values than keys": keyed("KEY is 8, and", "attention.value_length_swa", 8),
    "gemma4 in GGUF: sliding heads turned in part": keyed("KEY is 8, and", "rope.dimension_count_swa", 8),
    "gemma4 in GGUF: rope scaling": keyed("gemma4.rope.scaling is set", "rope.scaling.factor", 8.0),
    "gemma4 in GGUF: attention scaled by rope": keyed("gemma4.rope.scaling is set", "rope.scaling.attn_factor", 1.5),
    "gemma4 in GGUF: no rope_freqs": refused("missing tensor 'rope_freqs.weight'", lost=["rope_freqs.weight"]),
    "gemma4 in GGUF: counts for other layers": keyed("KEY has 3 numbers for 6", "attention.head_count_kv", [1, 2, 1]),
    "gemma4 in GGUF: a layer without heads": keyed(
        "KEY has 0 for a layer", "attention.head_count_kv", [2, 0, 2, 1, 2, 1]
    ),
    "gemma4 in GGUF: more key heads than heads": keyed(
        "gemma4.attention.head_count 4 is not a multiple of head_count_kv 3",
        "attention.head_count_kv",
        [2, 3, 2, 3, 2, 3],
    ),
    "gemma4 in GGUF: an MLP for a layer too many": keyed("KEY has 7 numbers", "feed_forward_length", [64] * 7),
    "gemma4 in GGUF: no layer of its kind to share with": keyed(
        "KEY is 3, and layer 3 finds no layer of its kind", "attention.shared_kv_layers", 3
    ),
    "gemma4 in GGUF: all layers share": keyed("KEY is 6, and layer 0 finds", "attention.shared_kv_layers", 6),
    "gemma4 in GGUF: less than none share": keyed("KEY is 'two'", "attention.shared_kv_layers", "two"),
    "gemma4 in GGUF: no width of inputs for layers": keyed(
        "missing key 'KEY'", "embedding_length_per_layer_input", None
    ),
    "gemma4 in GGUF: inputs for layers where none are said": keyed(
        "unknown tensor 'embed_tokens_per_layer.weight'", "embedding_length_per_layer_input", 0
    ),
    "gemma4 in GGUF: no table of inputs": lost("per_layer_token_embd.weight", "embed_tokens_per_layer.weight"),
    "gemma4 in GGUF: no values on a sliding layer": lost("blk.0.attn_v.weight", "layers.0.self_attn.v_proj.weight"),
    "gemma4 in GGUF: values on one full layer": refused("missing tensor 'layers.3.self_attn.v_proj.weight'", VALUES),
    "gemma4 in GGUF: a scalar is missing": lost("blk.2.layer_output_scale.weight", "layers.2.layer_scalar"),
    "gemma4 in GGUF: a token takes more than there are": refused(
        "gemma4.expert_used_count is 4, and there are 3 experts", ROUTER, **EXPERTS
    ),
    "gemma4 in GGUF: a router without experts": refused(
        "missing tensor 'layers.0.experts.down_proj.weight'", ROUTER, **EXPERTS | {"gemma4.expert_used_count": 2}
    ),
    "gemma4 in GGUF: no merges": refused("missing key 'tokenizer.ggml.merges'", **{"tokenizer.ggml.merges": None}),
    "gemma4 in GGUF: merges that are none": refused(
        "its tokenizer is not consistent", **{"tokenizer.ggml.merges": ["th"]}
    ),
    "gemma4 in GGUF: breaks that merges do not give": refused(r"token '\n\n' of its vocabulary is not", **BREAKS),
}
