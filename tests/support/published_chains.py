"""config.json of chains that their makers published, and weights of their real sizes that take no room on the disk.

What every file says alike, or no reader reads, is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dspark_export.checkpoints import DrafterSpec, TargetSpec
from dspark_export.checkpoints.expected import drafter_optional_tensors, drafter_tensors
from tests.support import tiny

Shape = tuple[int, ...]
WIDTHS = {"BF16": 2, "I64": 8, "BOOL": 1}


def llama(hidden: int, inner: int, heads: str, positions: int, vocab: int, drafted: int, **more: Any) -> dict[str, Any]:
    """SpecForge's config of `LlamaForCausalLMEagle3`; `heads` are "query/key-value"."""
    query, keys = map(int, heads.split("/"))
    return {
        "architectures": ["LlamaForCausalLMEagle3"], "hidden_act": "silu", "hidden_size": hidden,
        "initializer_range": 0.02, "intermediate_size": inner, "max_position_embeddings": positions,
        "model_type": "llama", "num_attention_heads": query, "num_key_value_heads": keys, "num_hidden_layers": 1,
        "pad_token_id": 0, "rms_norm_eps": 1e-06, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "use_cache": True, "vocab_size": vocab, "draft_vocab_size": drafted,
    } | more  # fmt: skip


def ids(*layers: int) -> dict[str, Any]:
    """`eagle_config`."""
    return {"eagle_config": {"eagle_aux_hidden_state_layer_ids": list(layers)}}


QWEN: dict[str, Any] = {
    "attention_bias": False, "attention_dropout": 0.0, "rope_scaling": None, "rope_theta": 1000000.0,
    "sliding_window": None, "use_sliding_window": False,
}  # fmt: skip
GEMMA = QWEN | {"bos_token_id": 2, "eos_token_id": 1}
OSS_YARN = {
    "beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0, "original_max_position_embeddings": 4096,
    "rope_type": "yarn", "truncate": False,
}  # fmt: skip
SPECFORGE: dict[str, dict[str, Any]] = {
    "deepseek-v3-671b": llama(7168, 40960, "56/8", 163840, 129280, 32000, rms_norm_eps=1e-05, **ids(1, 29, 57)),
    "gemma3-1b": llama(
        1152, 6912, "4/1", 32768, 262144, 32000,
        **GEMMA | {"head_dim": 256, "sliding_window": 512, "target_model_type": "gemma3_text"},
    ),
    "gemma4-26b-a4b": llama(
        2816, 2112, "32/8", 4096, 262144, 262144,
        **GEMMA | {"head_dim": 128, "target_model_type": "gemma4_text"} | ids(5, 17, 29),
    ),
    "gpt-oss-120B": llama(
        2880, 17280, "64/8", 4096, 201088, 32000, rms_norm_eps=1e-05, head_dim=64, **ids(1, 17, 33)
    ),
    "llama3-8B": llama(4096, 14336, "32/8", 2048, 128256, 32000, rms_norm_eps=1e-05),
    "qwen2.5-0.5b": llama(896, 4864, "14/2", 32768, 151936, 16000, **QWEN | {"sliding_window": 131072}),
    "qwen3-30B-A3B": llama(2048, 12288, "32/4", 2048, 151936, 32000, head_dim=128, max_window_layers=48, **QWEN),
    "qwen3-30B-A3B 3.1": llama(
        2048, 12288, "32/4", 2048, 151936, 32000, head_dim=128, fc_norm=True, norm_output=True, **QWEN
    ),
    "qwen3-4b": llama(2560, 9728, "32/8", 40960, 151936, 32000, head_dim=128, max_window_layers=36, **QWEN),
    "qwen3-next-80b-a3b": llama(
        2048, 16384, "16/2", 262144, 151936, 32000,
        head_dim=256, decoder_sparse_step=1, rope_scaling=None, rope_theta=10000000, use_sliding_window=False,
    ),
    "qwen2.5-vl-7b": llama(
        3584, 18944, "28/4", 8192, 152064, 32000,
        **QWEN | {"head_dim": 128, "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}},
    ),
}  # fmt: skip
"""sgl-project/SpecForge, configs/…-eagle3.json."""


def speculators(drafted: int, layers: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A config of the library with Llama's layer."""
    one = {"model_type": "llama", "num_hidden_layers": 1, "rms_norm_eps": 1e-06} | layers
    return {"speculators_model_type": "eagle3", "draft_vocab_size": drafted, "transformer_layer_config": one} | more


SPECULATORS: dict[str, dict[str, Any]] = {
    "gemma-4-31B-it": speculators(
        32000,
        {
            "attention_bias": False, "head_dim": 256, "hidden_act": "silu", "hidden_size": 5376,
            "intermediate_size": 21504, "max_position_embeddings": 262144, "num_attention_heads": 32,
            "num_key_value_heads": 16, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
            "tie_word_embeddings": False, "vocab_size": 262144,
        },
        architectures=["Eagle3DraftModel"], dtype="bfloat16", eagle_aux_hidden_state_layer_ids=[2, 30, 57],
        embed_requires_grad=False, norm_before_fc=False, norm_before_residual=True, target_hidden_size=None,
        tie_word_embeddings=False,
        speculators_config={"proposal_methods": [{"proposal_type": "greedy", "speculative_tokens": 3}]},
    ),
    "gpt-oss-20b": speculators(
        64000,
        {
            "hidden_size": 2880, "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64,
            "intermediate_size": 2880, "vocab_size": 201088, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
        },
        architectures=["Eagle3DraftModel"], norm_before_fc=True, norm_before_residual=True,
    ),
    "Qwen3-8B, an old one": speculators(
        32000,
        {
            "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
            "intermediate_size": 12288, "vocab_size": 151936, "rope_theta": 1000000,
        },
        architectures=["Eagle3Speculator"], norm_before_residual=True, eagle_aux_hidden_state_layer_ids=[2, 18, 33],
        auto_map={"": "eagle3.Eagle3SpeculatorConfig"}, has_no_defaults_at_init=False, torch_dtype="bfloat16",
    ),
}  # fmt: skip
"""RedHatAI's on the Hub."""


NEBIUS: dict[str, Any] = llama(
    2880, 11520, "64/8", 131072, 201088, 64000, architectures=["LlamaForCausalLM"], truncated_vocab_size=64000,
    rms_norm_eps=1e-05, head_dim=64, rope_theta=150000, rope_scaling=OSS_YARN,
)  # fmt: skip
"""nebius/EAGLE3-gpt-oss-20b, which calls itself a Llama."""


def target_of(spec: DrafterSpec) -> TargetSpec:
    """A target of the sizes that `spec` drafts for."""
    shape = replace(tiny.shape(spec.num_target_layers, qk_norm=False), hidden_size=spec.shape.hidden_size)
    return replace(tiny.target_spec(), shape=shape, vocab_size=spec.vocab_size)


def write_published(folder: Path, config: Mapping[str, Any], spec: DrafterSpec) -> Path:
    """The directory of `config` with weights that `spec` has, all zero and not written.

    d2t of zeros adds nothing to a place: the first tokens of the vocabulary.
    """
    tables = drafter_optional_tensors(spec)
    own = {"embed_tokens.weight": spec.own_embedding, "lm_head.weight": spec.own_head}
    shapes = drafter_tensors(spec) | {name: tables[name] for name in own if own[name]}
    tensors = {name.replace("layers.0.", "midlayer."): ("BF16", shape) for name, shape in shapes.items()}
    if spec.draft_vocabulary:
        tensors["d2t"] = ("I64", (spec.draft_vocab_size,))
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    _write_zeros(folder / "model.safetensors", tensors)
    return folder


def _write_zeros(path: Path, tensors: Mapping[str, tuple[str, Shape]]) -> None:
    """A safetensors file whose data is a hole."""
    header, end = {}, 0
    for name, (kind, shape) in tensors.items():
        size = WIDTHS[kind]
        for extent in shape:
            size *= extent
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
