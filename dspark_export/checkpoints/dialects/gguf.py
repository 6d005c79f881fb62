"""Targets in GGUF, of the families that have a layout there; any quantisation that the gguf library dequantises."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.checkpoint import TargetCheckpoint
from dspark_export.checkpoints.consistency import check_control_tokens
from dspark_export.checkpoints.dialects.base import TargetDialect
from dspark_export.checkpoints.dialects.gguf_rope import ROPE_FREQS, read_gguf_rope
from dspark_export.checkpoints.gguf_file import CONVERT_AGAIN, GgufFile
from dspark_export.checkpoints.seams import GgufLayout, TargetFamily, family_of_gguf, gguf_architectures
from dspark_export.checkpoints.spec import DecoderShape, LayerSpec, TargetSpec
from dspark_export.checkpoints.tensors import Array, Entry, Weights, check_depth, check_tensors
from dspark_export.checkpoints.text import read_gguf_text


class GgufDialect(TargetDialect):
    """A GGUF file, or the first part of a split one."""

    name = "GGUF"

    def matches(self, path: Path) -> bool:
        return path.is_file()

    def read(self, path: Path) -> TargetCheckpoint:
        file = GgufFile(path)
        spec, weights = read_gguf_target(file)
        check_control_tokens(path, spec)
        text = read_gguf_text(file, spec)
        names = (str(file.get("general.name", "")), *file.base_models())
        return TargetCheckpoint(
            path=path,
            spec=spec,
            weights=weights,
            text=text,
            files=file.paths,
            recorded_names=names,
        )


def read_gguf_target(file: GgufFile) -> tuple[TargetSpec, Weights]:
    """Spec and (unloaded) weights of a GGUF. Raises `CheckpointError` naming what is wrong."""
    architecture = file.require("general.architecture", str)
    family = family_of_gguf(architecture)
    if family is None or family.gguf is None:
        raise CheckpointError(
            f"{file.path}: architecture '{architecture}' is not supported from GGUF",
            hint=f"supported: {', '.join(gguf_architectures())}",
        )
    layout = family.gguf
    spec = _spec(file, family, layout)
    weights = Weights(file.path, file, _entries(file, spec.shape, layout))
    check_tensors(file.path, weights.shapes, family.tensors(spec))
    return spec, weights


def _spec(file: GgufFile, family: TargetFamily, layout: GgufLayout) -> TargetSpec:
    return TargetSpec(
        architecture=family.name,
        shape=_shape(file, family, layout),
        vocab_size=len(file.require("tokenizer.ggml.tokens", list)),
        max_positions=file.count(f"{layout.architecture}.context_length"),
        tied_embeddings="output.weight" not in file.shapes,
        eos_token_ids=(file.require("tokenizer.ggml.eos_token_id", int),),
        bos_token_id=file.get("tokenizer.ggml.bos_token_id"),
        **family.gguf_facts(file),
    )


def _shape(file: GgufFile, family: TargetFamily, layout: GgufLayout) -> DecoderShape:
    name = layout.architecture
    heads, hidden = file.count(f"{name}.attention.head_count"), file.count(f"{name}.embedding_length")
    kv_heads = file.count(f"{name}.attention.head_count_kv", heads)
    if heads % kv_heads:
        raise CheckpointError(
            f"{file.path}: {name}.attention.head_count {heads} is not a multiple of head_count_kv {kv_heads}",
            hint=CONVERT_AGAIN,
        )
    depth = file.count(f"{name}.block_count")
    check_depth(file.path, file.shapes, depth)
    head_dim = file.count(f"{name}.attention.key_length", hidden // heads)
    layer = LayerSpec(
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate_size=file.count(f"{name}.feed_forward_length"),
        rope=read_gguf_rope(file, name, head_dim),
        qk_norm=layout.qk_norm,
        qkv_bias=layout.qkv_bias or "blk.0.attn_q.bias" in file.shapes,
        output_bias="blk.0.attn_output.bias" in file.shapes,
    )
    layers = family.gguf_layers(file, layer, depth)
    epsilon = file.require(f"{name}.attention.layer_norm_rms_epsilon", float)
    return DecoderShape(hidden_size=hidden, rms_norm_eps=epsilon, layers=layers)


def _entries(file: GgufFile, shape: DecoderShape, layout: GgufLayout) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for name in file.shapes:
        if name == ROPE_FREQS:
            continue
        match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name)
        if match and match[2] in layout.layer:
            change = _unpermute(match[2], shape.layers[0]) if layout.permuted else None
            entries[f"layers.{match[1]}.{layout.layer[match[2]]}.{match[3]}"] = Entry(name, change)
        elif match and match[3] == "weight" and match[2] in layout.whole:
            entries[f"layers.{match[1]}.{layout.whole[match[2]]}"] = Entry(name)
        else:
            stem = name.removesuffix(".weight")
            entries[f"{layout.top[stem]}.weight" if stem in layout.top else name] = Entry(name)
    return entries


def _unpermute(kind: str, layer: LayerSpec) -> Callable[[Array], Array] | None:
    """llama.cpp interleaves the rotary pairs of q and k; we keep Hugging Face's half-and-half layout."""
    heads = {"attn_q": layer.num_heads, "attn_k": layer.num_kv_heads}.get(kind)
    return None if heads is None else partial(_pairs_to_halves, heads=heads)


def _pairs_to_halves(weight: Array, heads: int) -> Array:
    pairs = weight.reshape(heads, len(weight) // heads // 2, 2, -1)
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(weight.shape))
