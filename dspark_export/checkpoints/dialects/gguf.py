"""Targets in GGUF, of the families that have a layout there; any quantisation that the gguf library dequantises."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.checkpoint import TargetCheckpoint
from dspark_export.checkpoints.consistency import check_control_tokens
from dspark_export.checkpoints.dialects.base import TargetDialect
from dspark_export.checkpoints.dialects.gguf_rope import ROPE_FREQS, read_gguf_rope
from dspark_export.checkpoints.gguf_counts import layer_counts
from dspark_export.checkpoints.gguf_file import CONVERT_AGAIN, GgufFile
from dspark_export.checkpoints.seams import GgufLayout, TargetFamily, family_of_gguf, gguf_architectures
from dspark_export.checkpoints.spec import DecoderShape, LayerSpec, TargetSpec
from dspark_export.checkpoints.tensors import Array, Entry, Weights, check_depth, check_tensors
from dspark_export.checkpoints.text import read_gguf_text

FUSED = {"attn_qkv": "--fuse-qkv", "ffn_gate_up_exps": "--fuse-gate-up-exps"}
"""Tensors of several projections, and the option of llama.cpp's converter that writes them."""


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
        return TargetCheckpoint(path=path, spec=spec, weights=weights, text=text, files=file.paths)


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
    _check_fused(file, layout)
    spec = _spec(file, family, layout)
    entries = family.gguf_entries(spec, _entries(file, spec.shape, layout), file)
    weights = Weights(file.path, file, entries)
    check_tensors(file.path, weights.shapes, family.tensors(spec))
    return spec, weights


def _check_fused(file: GgufFile, layout: GgufLayout) -> None:
    """Raises `CheckpointError` for projections that the converter was asked to put into one tensor."""
    for name in file.shapes:
        kind = name.split(".")[2] if name.startswith("blk.") and name.count(".") > 2 else ""
        if kind in FUSED and f"{kind}.weight" not in layout.whole:
            raise CheckpointError(
                f"{file.path}: tensor {name} holds several projections, which is not supported for "
                f"'{layout.architecture}'",
                hint=f"convert the model to GGUF again without {FUSED[kind]}",
            )


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
    hidden, depth = file.count(f"{name}.embedding_length"), file.count(f"{name}.block_count")
    check_depth(file.path, file.shapes, depth)
    layers = family.gguf_layers(file, _layers(file, layout, hidden, depth))
    epsilon = file.require(f"{name}.attention.layer_norm_rms_epsilon", float)
    return DecoderShape(hidden_size=hidden, rms_norm_eps=epsilon, layers=layers)


def _layers(file: GgufFile, layout: GgufLayout, hidden: int, depth: int) -> tuple[LayerSpec, ...]:
    """What the keys say that all families have. llama.cpp reads these counts for each layer, or one for all."""
    name = layout.architecture
    heads = layer_counts(file, f"{name}.attention.head_count", depth)
    kv_heads = layer_counts(file, f"{name}.attention.head_count_kv", depth, heads)
    widths = layer_counts(file, f"{name}.feed_forward_length", depth)
    _check_groups(file, name, heads, kv_heads)
    head_dim = file.count(f"{name}.attention.key_length", hidden // heads[0])
    common = LayerSpec(
        num_heads=heads[0],
        num_kv_heads=kv_heads[0],
        head_dim=head_dim,
        intermediate_size=widths[0],
        rope=read_gguf_rope(file, name, head_dim),
        qk_norm=layout.qk_norm,
        qkv_bias=layout.qkv_bias or "blk.0.attn_q.bias" in file.shapes,
        output_bias="blk.0.attn_output.bias" in file.shapes,
    )
    return tuple(
        replace(common, num_heads=count, num_kv_heads=kv_count, intermediate_size=width)
        for count, kv_count, width in zip(heads, kv_heads, widths, strict=True)
    )


def _check_groups(file: GgufFile, name: str, heads: Sequence[int], kv_heads: Sequence[int]) -> None:
    """Raises `CheckpointError` where heads cannot share those of the keys evenly."""
    for count, kv_count in zip(heads, kv_heads, strict=True):
        if count % kv_count:
            raise CheckpointError(
                f"{file.path}: {name}.attention.head_count {count} is not a multiple of head_count_kv {kv_count}",
                hint=CONVERT_AGAIN,
            )


def _entries(file: GgufFile, shape: DecoderShape, layout: GgufLayout) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for name in file.shapes:
        if name == ROPE_FREQS:
            continue
        match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias|scale)", name)
        if match and f"{match[2]}.{match[3]}" in layout.whole:
            entries[f"layers.{match[1]}.{layout.whole[f'{match[2]}.{match[3]}']}"] = Entry(name)
        elif match and match[3] != "scale" and match[2] in layout.layer:
            layer = shape.layers[min(int(match[1]), shape.num_layers - 1)]
            change = _unpermute(match[2], layer) if layout.permuted else None
            entries[f"layers.{match[1]}.{layout.layer[match[2]]}.{match[3]}"] = Entry(name, change)
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
