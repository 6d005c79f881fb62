"""Tiny random checkpoints in the real dialects: every tensor, every config key, a few kilobytes.

A pair is a target directory (or GGUF file) and a DeepSpec drafter directory that fits it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from dspark_export.checkpoints import (
    ConfidenceSpec,
    DecoderShape,
    DrafterCheckpoint,
    DrafterSpec,
    LayerSpec,
    MarkovSpec,
    RopeSpec,
    TargetSpec,
)
from dspark_export.checkpoints.dialects.speculators import SpeculatorsDialect
from dspark_export.checkpoints.expected import drafter_tensors, target_tensors
from dspark_export.checkpoints.spec import BlockMask
from dspark_export.checkpoints.tensors import Entry, TensorSource, Weights

VOCAB, HIDDEN, LAYERS, BLOCK, RANK = 128, 48, 4, 5, 8
TAPS = (0, 2)
TEMPLATE = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"


def shape(layers: int, *, qk_norm: bool, rope: RopeSpec | None = None) -> DecoderShape:
    """Three query heads in one group would hide a mistake in grouping: four heads, two groups."""
    layer = LayerSpec(
        num_heads=4,
        num_kv_heads=2,
        head_dim=16,
        intermediate_size=64,
        rope=rope or RopeSpec(10000.0),
        qk_norm=qk_norm,
    )
    return DecoderShape(hidden_size=HIDDEN, rms_norm_eps=1e-5, layers=(layer,) * layers)


def with_layers(shape: DecoderShape, **changes: Any) -> DecoderShape:
    """`shape` with every layer changed."""
    return replace(shape, layers=tuple(replace(layer, **changes) for layer in shape.layers))


def with_windows(spec: DrafterSpec, *windows: int, mask: BlockMask = "causal_if_sliding") -> DrafterSpec:
    """`spec` with a window in each layer; 0: the layer sees all."""
    layers = (replace(layer, window=window) for layer, window in zip(spec.shape.layers, windows, strict=True))
    return replace(spec, shape=replace(spec.shape, layers=tuple(layers)), block_mask=mask)


def target_spec(architecture: str = "llama", *, tied: bool = True, rope: RopeSpec | None = None) -> TargetSpec:
    """A target of four layers."""
    return TargetSpec(
        architecture=architecture,
        shape=shape(LAYERS, qk_norm=architecture == "qwen3", rope=rope),
        vocab_size=VOCAB,
        max_positions=256,
        tied_embeddings=tied,
        eos_token_ids=(2,),
        bos_token_id=1,
    )


def drafter_spec(kind: str = "vanilla", *, confidence: bool = True, with_markov: bool = True) -> DrafterSpec:
    """A drafter of two layers for `target_spec`."""
    rank = 0 if kind == "none" else RANK
    return DrafterSpec(
        shape=shape(2, qk_norm=True),
        vocab_size=VOCAB,
        block_size=BLOCK,
        mask_token_id=3,
        target_layer_ids=TAPS,
        num_target_layers=LAYERS,
        markov=MarkovSpec(kind, rank),
        confidence=ConfidenceSpec(confidence, confidence and with_markov and rank > 0),
        own_embedding=False,
        own_head=False,
    )


def random_tensors(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights of a size that keeps activations near one; norms near one."""
    random = np.random.default_rng(seed)
    tensors = {}
    for name, size in shapes.items():
        values = random.standard_normal(size).astype(np.float32)
        if "norm" in name:
            tensors[name] = 1 + 0.1 * values
        else:
            tensors[name] = values / np.sqrt(np.float32(size[-1]))
    return tensors


class _Arrays(TensorSource):
    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = arrays

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {name: array.shape for name, array in self._arrays.items()}

    def load(self, name: str) -> np.ndarray:
        return self._arrays[name]


def weights_of(arrays: Mapping[str, np.ndarray]) -> Weights:
    """Weights of a checkpoint that was never written."""
    return Weights(Path("nowhere"), _Arrays(arrays), {name: Entry(name) for name in arrays})


def decoder_config(spec: DecoderShape) -> dict[str, Any]:
    """The config keys that targets and drafters share."""
    layer = spec.layers[0]
    rope: dict[str, Any] = {"rope_type": layer.rope.kind, "rope_theta": layer.rope.theta}
    if layer.rope.kind != "default":
        rope["factor"] = layer.rope.factor
    if layer.rope.kind == "llama3":
        rope |= {
            "low_freq_factor": layer.rope.low_freq_factor,
            "high_freq_factor": layer.rope.high_freq_factor,
            "original_max_position_embeddings": layer.rope.original_max_positions,
        }
    return {
        "hidden_size": spec.hidden_size,
        "intermediate_size": layer.intermediate_size,
        "num_hidden_layers": spec.num_layers,
        "num_attention_heads": layer.num_heads,
        "num_key_value_heads": layer.num_kv_heads,
        "head_dim": layer.head_dim,
        "vocab_size": VOCAB,
        "max_position_embeddings": 256,
        "rms_norm_eps": spec.rms_norm_eps,
        "rope_parameters": rope,
        "hidden_act": "silu",
        "attention_bias": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def write_target(folder: Path, spec: TargetSpec | None = None, seed: int = 0) -> Path:
    """A Hugging Face directory: config, safetensors, tokenizer, chat template."""
    spec = spec or target_spec()
    folder.mkdir(parents=True, exist_ok=True)
    name = {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}[spec.architecture]
    config = decoder_config(spec.shape) | {
        "architectures": [name],
        "model_type": spec.architecture,
        "tie_word_embeddings": spec.tied_embeddings,
    }
    (folder / "config.json").write_text(json.dumps(config))
    tensors = random_tensors(target_tensors(spec), seed)
    save_file({hf_name(key): value for key, value in tensors.items()}, folder / "model.safetensors")
    (folder / "tokenizer.json").write_text(byte_tokenizer().to_str())
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def write_drafter(folder: Path, spec: DrafterSpec | None = None, seed: int = 1) -> Path:
    """A DeepSpec directory: config and safetensors under flat names. What DeepSpec has no words for is written in the
    layout of the speculators library."""
    spec = spec or drafter_spec()
    folder.mkdir(parents=True, exist_ok=True)
    if spec.anchor == "given" or any(layer.window for layer in spec.shape.layers):
        weights = weights_of(random_tensors(drafter_tensors(spec), seed))
        SpeculatorsDialect().write(DrafterCheckpoint(path=folder, spec=spec, weights=weights, files=[]), folder)
        return folder
    config = decoder_config(spec.shape) | {
        "architectures": ["Qwen3DSparkModel"],
        "model_type": "qwen3",
        "tie_word_embeddings": False,
        "layer_types": ["full_attention"] * spec.shape.num_layers,
        "num_target_layers": spec.num_target_layers,
        "block_size": spec.block_size,
        "mask_token_id": spec.mask_token_id,
        "target_layer_ids": list(spec.target_layer_ids),
        "markov_rank": spec.markov.rank,
        "markov_head_type": "vanilla" if spec.markov.kind == "none" else spec.markov.kind,
        "enable_confidence_head": spec.confidence.enabled,
        "confidence_head_with_markov": spec.confidence.with_markov,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    save_file(random_tensors(drafter_tensors(spec), seed), folder / "model.safetensors")
    return folder


def hf_name(canonical: str) -> str:
    """Hugging Face's name of a canonical target tensor."""
    return canonical if canonical.startswith("lm_head") else f"model.{canonical}"


def byte_tokenizer() -> Tokenizer:
    """One token a printable ASCII character; ids 0 to 3 are control tokens."""
    special = ["<unk>", "<s>", "</s>", "<mask>"]
    alphabet = ["Ġ", "Ċ", *(chr(code) for code in range(33, 127))]
    vocab = {token: index for index, token in enumerate([*special, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(special)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def edit_config(folder: Path, **changes: Any) -> None:
    """Change keys of config.json; None removes a key."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for key, value in changes.items():
        if value is None:
            config.pop(key, None)
        else:
            config[key] = value
    path.write_text(json.dumps(config))
