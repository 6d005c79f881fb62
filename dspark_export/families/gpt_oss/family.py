"""gpt-oss: windows in every other layer, attention sinks, a mixture of experts with clamped gates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import PositiveFloat

from dspark_export.checkpoints import DecoderShape, LayerSpec, TargetSpec
from dspark_export.checkpoints.config_file import DecoderConfig
from dspark_export.checkpoints.expert_config import ExpertConfig
from dspark_export.checkpoints.tensors import Array, Entry, Shape, TensorSource
from dspark_export.families.gpt_oss.gguf import ALPHA, GPT_OSS, LIMIT, gpt_oss_layers
from dspark_export.families.llama import COMMON_DEFAULTS, LlamaFamily

if TYPE_CHECKING:
    from dspark_export.checkpoints.gguf_file import GgufFile

YARN = {
    "rope_type": "yarn",
    "rope_theta": 150000.0,
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 4096,
}
"""How its class rotates where a config says nothing."""


class GptOssConfig(ExpertConfig):
    """`GptOssConfig`."""

    swiglu_alpha: PositiveFloat = ALPHA
    swiglu_limit: PositiveFloat = LIMIT

    def gpt_oss_shape(self, path: Path) -> DecoderShape:
        """Even layers slide unless `layer_types` says otherwise."""
        types = self.layer_types or [
            "full_attention" if i % 2 else "sliding_attention" for i in range(self.num_hidden_layers)
        ]
        typed = self.model_copy(update={"layer_types": types, "use_sliding_window": True})
        experts = self.expert_spec(
            path,
            renormalised=True,
            biased=True,
            alpha=self.swiglu_alpha,
            limit=self.swiglu_limit,
            up_offset=1.0,
        )
        biased = self.attention_bias
        return self.decoder_shape(
            path, typed.windows(path), qkv_bias=biased, output_bias=biased, sinks=True, experts=experts
        )


class GptOssFamily(LlamaFamily):
    """`GptOssForCausalLM`, and `gpt-oss` in GGUF."""

    name = "gpt_oss"
    architectures = ("GptOssForCausalLM",)
    config = GptOssConfig
    gguf = GPT_OSS
    defaults: Mapping[str, Any] = COMMON_DEFAULTS | {
        "max_position_embeddings": 131072,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "num_local_experts": 128,
        "num_experts_per_tok": 4,
        "sliding_window": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 150000.0,
        "rope_parameters": YARN,
        "attention_bias": True,
    }

    def read_shape(self, config: DecoderConfig, path: Path) -> DecoderShape:
        assert isinstance(config, GptOssConfig)
        return config.gpt_oss_shape(path)

    def hf_entries(
        self, path: Path, spec: TargetSpec, entries: Mapping[str, Entry], source: TensorSource
    ) -> tuple[Mapping[str, Entry], TensorSource]:
        del path, spec
        named: dict[str, Entry] = {}
        for name, entry in entries.items():
            named |= _experts(name, entry, source.shapes[entry.source_name])
        return named, source

    def gguf_layers(self, file: GgufFile, layers: tuple[LayerSpec, ...]) -> tuple[LayerSpec, ...]:
        return gpt_oss_layers(file, layers)


def _experts(name: str, entry: Entry, shape: Shape) -> dict[str, Entry]:
    """Stacks lie as [E, in, out], gate and up in turn along their outputs; ours are [E, out, in], one a projection."""
    stem, _, which = name.rpartition(".mlp.experts.")
    if which in ("down_proj", "down_proj_bias"):
        return {_canonical(stem, "down", which): replace(entry, **_changes(which, shape, slice(None)))}
    if which in ("gate_up_proj", "gate_up_proj_bias"):
        return {
            _canonical(stem, one, which): replace(entry, **_changes(which, shape, slice(start, None, 2)))
            for start, one in enumerate(("gate", "up"))
        }
    return {name: entry}


def _canonical(stem: str, projection: str, which: str) -> str:
    return f"{stem}.mlp.experts.{projection}_proj.{'bias' if which.endswith('bias') else 'weight'}"


def _changes(which: str, shape: Shape, columns: slice) -> dict[str, Any]:
    """Transform and shape of an `Entry` that takes these `columns` of a stack."""
    turned = not which.endswith("bias")
    out = len(range(*columns.indices(shape[-1])))

    def change(array: Array) -> Array:
        part = array[..., columns]
        return np.ascontiguousarray(part.swapaxes(1, 2) if turned else part)

    return {"transform": change, "shape": (shape[0], out, shape[1]) if turned else (shape[0], out)}
