"""The speculators library's layout of block drafters with a reduced vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig

from training.drafter import Settings
from training.target import layer_dim, rope_theta

VERSION = "0.9.0"
DECODER_KEYS = (
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "intermediate_size",
    "vocab_size",
    "rms_norm_eps",
    "hidden_act",
    "max_position_embeddings",
    "bos_token_id",
    "eos_token_id",
)


def vocabulary_tensors(ids: Tensor, vocabulary: int) -> dict[str, Tensor]:
    """`d2t` [V_d] int64, what is added to a row to get its id, and `t2d` [V] bool, which ids there are."""
    flags = torch.zeros(vocabulary, dtype=torch.bool)
    flags[ids.cpu()] = True
    return {"d2t": ids.cpu() - torch.arange(len(ids)), "t2d": flags}


def speculators_config(
    config: LlamaConfig, settings: Settings, taps: Sequence[int], drafted: int, heads: Mapping[str, object]
) -> dict[str, Any]:
    """config.json; `taps` are layers whose outputs are read, which the library counts as inputs of the next."""
    proposal = {"proposal_type": "greedy", "speculative_tokens": settings.depth, "accept_tolerance": 0.0}
    return {
        "speculators_model_type": "dspark",
        "speculators_version": VERSION,
        "architectures": ["DSparkDraftModel"],
        "block_size": settings.depth,
        "mask_token_id": settings.mask_token,
        **heads,
        "transformer_layer_config": decoder_config(config, settings.layers),
        "draft_vocab_size": drafted,
        "target_hidden_size": config.hidden_size,
        "tie_word_embeddings": False,
        "sample_from_anchor": True,
        "sliding_window_non_causal": False,
        "aux_hidden_state_layer_ids": [tap + 1 for tap in taps],
        "dtype": "bfloat16",
        "speculators_config": {
            "algorithm": "dspark",
            "default_proposal_method": "greedy",
            "proposal_methods": [proposal | {"verifier_accept_k": 1}],
            "verifier": {"name_or_path": settings.name, "architectures": ["LlamaForCausalLM"]},
        },
    }


def decoder_config(config: LlamaConfig, layers: int) -> dict[str, Any]:
    """`transformer_layer_config`: Qwen3's layers, which have norms of heads, in the target's sizes."""
    return {
        **{key: getattr(config, key) for key in DECODER_KEYS},
        "head_dim": layer_dim(config),
        "model_type": "qwen3",
        "num_hidden_layers": layers,
        "rope_parameters": {"rope_theta": rope_theta(config), "rope_type": "default"},
        "rope_theta": rope_theta(config),
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": False,
        "layer_types": ["full_attention"] * layers,
        "sliding_window": None,
        "dtype": "bfloat16",
    }
