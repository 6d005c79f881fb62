"""DeepSpec's drafters for Gemma 4, tiny: the released config with small sizes, and tensors named from its source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from tests.support import tiny

Array = np.ndarray
RELEASED: dict[str, Any] = {
    "architectures": ["Gemma4DSparkModel"], "attention_bias": False, "attention_dropout": 0.0,
    "attention_k_eq_v": True, "block_size": 7, "bos_token_id": 2, "confidence_head_with_markov": True,
    "dtype": "bfloat16", "enable_confidence_head": True, "enable_moe_block": False, "eos_token_id": 1,
    "final_logit_softcapping": 30.0, "global_head_dim": 512, "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 3840, "hidden_size_per_layer_input": 0,
    "initializer_range": 0.02, "intermediate_size": 15360, "layer_types": ["full_attention"] * 5,
    "markov_head_type": "vanilla", "markov_rank": 256, "mask_token_id": 4, "max_position_embeddings": 262144,
    "model_type": "gemma4_text", "moe_intermediate_size": None, "num_anchors": 512, "num_attention_heads": 16,
    "num_experts": None, "num_global_key_value_heads": 1, "num_hidden_layers": 5, "num_key_value_heads": 8,
    "num_kv_shared_layers": 0, "num_target_layers": 48, "pad_token_id": 0, "rms_norm_eps": 1e-06,
    "rope_parameters": {
        "full_attention": {"partial_rotary_factor": 0.25, "rope_theta": 1000000.0, "rope_type": "proportional"},
        "rope_theta": None, "rope_type": "default",
        "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
    },
    "sliding_window": 1024, "target_layer_ids": [5, 17, 29, 41, 46], "target_model_type": "gemma4_unified",
    "target_text_model_type": "gemma4_unified_text", "tie_word_embeddings": False, "top_k_experts": None,
    "transformers_version": "5.10.2", "use_bidirectional_attention": "vision", "use_cache": True,
    "use_double_wide_mlp": False, "vocab_size": 262144, "vocab_size_per_layer_input": 262144,
}  # fmt: skip
"""deepseek-ai/dspark_gemma4_12b_block7, all of it."""
SMALL: dict[str, Any] = {
    "block_size": tiny.BLOCK, "bos_token_id": 1, "dtype": "float32", "eos_token_id": 2, "final_logit_softcapping": 3.0,
    "global_head_dim": 32, "head_dim": 16, "hidden_size": tiny.HIDDEN, "intermediate_size": 64,
    "layer_types": ["full_attention"] * 2, "markov_rank": tiny.RANK, "mask_token_id": 3, "num_attention_heads": 4,
    "num_hidden_layers": 2, "num_key_value_heads": 2, "num_target_layers": tiny.LAYERS,
    "target_layer_ids": list(tiny.TAPS), "target_model_type": "llama", "target_text_model_type": "llama",
    "vocab_size": tiny.VOCAB, "vocab_size_per_layer_input": tiny.VOCAB,
}  # fmt: skip
TINY = RELEASED | SMALL
WITHOUT_HEADS = {"markov_rank": 0, "enable_confidence_head": False}
"""DeepSpec's DFlash."""
KINDS: dict[str, dict[str, Any]] = {
    "vanilla": {},
    "gated": {"markov_head_type": "gated"},
    "rnn": {"markov_head_type": "rnn"},
    "dflash": WITHOUT_HEADS,
    "values of their own": {"attention_k_eq_v": False},
    "no softcap": {"final_logit_softcapping": None},
}
"""What is changed of `TINY`."""


def tensor_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """What DeepSpec saves of a drafter with this config."""
    hidden, vocab, rank = config["hidden_size"], config["vocab_size"], config["markov_rank"]
    shapes: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (vocab, hidden), "lm_head.weight": (vocab, hidden)}
    shapes |= {"fc.weight": (hidden, len(config["target_layer_ids"]) * hidden)}
    shapes |= {"hidden_norm.weight": (hidden,), "norm.weight": (hidden,)}
    for i in range(config["num_hidden_layers"]):
        shapes |= {f"layers.{i}.{name}": size for name, size in layer_shapes(config).items()}
    if rank:
        shapes |= {f"markov_head.markov_w{n}.weight": (vocab, rank) for n in (1, 2)}
        outs, ins = {"vanilla": (0, 0), "gated": (rank, hidden + rank), "rnn": (3 * rank, 2 * rank + hidden)}[
            config["markov_head_type"]
        ]
        module = "markov_head.gate_proj" if outs == rank else "markov_head.joint_proj"
        shapes |= {f"{module}.weight": (outs, ins), f"{module}.bias": (outs,)} if outs else {}
    if config["enable_confidence_head"]:
        shapes |= {"confidence_head.proj.weight": (1, hidden + rank), "confidence_head.proj.bias": (1,)}
    return shapes


def layer_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Those of one layer."""
    hidden, inner, width = config["hidden_size"], config["intermediate_size"], config["global_head_dim"]
    shared = config["attention_k_eq_v"]
    query = config["num_attention_heads"] * width
    keys = config["num_global_key_value_heads" if shared else "num_key_value_heads"] * width
    norms = ("input", "post_attention", "pre_feedforward", "post_feedforward")
    return {
        **{f"{name}_layernorm.weight": (hidden,) for name in norms},
        "layer_scalar": (1,),
        "self_attn.q_proj.weight": (query, hidden),
        "self_attn.k_proj.weight": (keys, hidden),
        **({} if shared else {"self_attn.v_proj.weight": (keys, hidden)}),
        "self_attn.o_proj.weight": (hidden, query),
        "self_attn.q_norm.weight": (width,),
        "self_attn.k_norm.weight": (width,),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
    }


def random_tensors(config: dict[str, Any], seed: int = 5) -> dict[str, Array]:
    """As `tiny.random_tensors`, scalars of the layers away from one."""
    tensors = tiny.random_tensors(tensor_shapes(config), seed)
    return {name: np.full_like(x, 0.7) if name.endswith("layer_scalar") else x for name, x in tensors.items()}


def write_gemma4_drafter(folder: Path, *, dtype: Any = np.float32, without: tuple[str, ...] = (), **keys: Any) -> Path:
    """A directory as DeepSpec saves it, with other keys of `TINY` (`...`: none), in `dtype`, `without` some tensors."""
    given = {key: value for key, value in keys.items() if value is not ...}
    config = {key: value for key, value in (TINY | keys).items() if value is not ...}
    tensors = {name: x.astype(dtype) for name, x in random_tensors(TINY | given).items() if name not in without}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    return folder


BFLOAT16 = ml_dtypes.bfloat16
