"""Drafters in GGUF, `general.architecture` "dflash": what llama.cpp reads for DFlash and DSpark."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dspark_engines.arrays import Ints
from dspark_engines.bundle.vocabulary import is_vocabulary
from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.checkpoint import DrafterCheckpoint
from dspark_export.checkpoints.consistency import check_pair
from dspark_export.checkpoints.dialects.base import DrafterDialect
from dspark_export.checkpoints.dialects.gguf_rope import read_gguf_rope
from dspark_export.checkpoints.expected import drafter_optional_tensors, drafter_tensors
from dspark_export.checkpoints.gguf_file import CONVERT_AGAIN, GgufFile
from dspark_export.checkpoints.reduction import in_rising_order
from dspark_export.checkpoints.seams import gguf_layout as decoder
from dspark_export.checkpoints.spec import (
    ConfidenceSpec,
    DecoderShape,
    DrafterSpec,
    LayerSpec,
    MarkovSpec,
    TargetSpec,
)
from dspark_export.checkpoints.tensors import Entry, Shape, Weights, check_depth, check_tensors
from dspark_export.checkpoints.trained_for import TrainedFor, base_name

ARCHITECTURE, D2T, MASK = "dflash", "d2t", "tokenizer.ggml.mask_token_id"
TOKENS = "tokenizer.ggml.tokens"
"""Its target's, where a file has them."""
TOP = {
    "token_embd.weight": "embed_tokens.weight",
    "output.weight": "lm_head.weight",
    "output_norm.weight": "norm.weight",
    "enc.output_norm.weight": "hidden_norm.weight",
    "fc.weight": "fc.weight",
    "markov_w1.weight": "markov_head.markov_w1.weight",
    "markov_w2.weight": "markov_head.markov_w2.weight",
    "conf_proj.weight": "confidence_head.proj.weight",
    "conf_proj.bias": "confidence_head.proj.bias",
}
LAYER = decoder.LAYER | decoder.HEAD_NORMS
FOREIGN = {"dflash-draft": "a fork's layout", "dspark": "a fork's layout"}
EAGLE3, NEXTN = "eagle3", "nextn_predict_layers"
FROM_DIRECTORY = "take the Hugging Face directory that the file was converted from"
DRAFTER_NAME = re.compile(r"d(flash|spark|raft)|speculat|eagle")
"""In the name of a model: it is a drafter itself."""
PLAIN: Mapping[str, object] = {
    "logit_scale": 1.0,
    "final_logit_softcapping": 0.0,
    "embedding_scale": 1.0,
    "attention.causal": False,
    "hyper_connection.count": 0,
    "selector_rank": 0,
    "conv_kernel_size": 0,
}
"""Keys that change what a drafter computes, and the value with which they do not."""


class GgufDrafterDialect(DrafterDialect):
    """A GGUF file."""

    name = "GGUF"

    def matches(self, path: Path) -> bool:
        return path.is_file()

    def read(self, path: Path, target: TargetSpec) -> DrafterCheckpoint:
        file = GgufFile(path, integers=frozenset((D2T,)))
        _check_architecture(file)
        entries = _entries(file)
        check_depth(path, file.shapes, file.count("dflash.block_count"))
        ids = _vocabulary(file, target)
        spec = _spec(file, entries, target, tuple(np.sort(ids).tolist()))
        weights = Weights(path, file, in_rising_order(entries, ids))
        trained_for = TrainedFor(_base_model(file))
        check_pair(path, spec, target, trained_for)
        check_tensors(path, weights.shapes, drafter_tensors(spec), drafter_optional_tensors(spec))
        return DrafterCheckpoint(path=path, spec=spec, weights=weights, files=file.paths, trained_for=trained_for)


def _check_architecture(file: GgufFile) -> None:
    found = file.require("general.architecture", str)
    if file.get(f"{found}.{NEXTN}"):
        raise CheckpointError(
            f"{file.path}: {found}.{NEXTN} says that an MTP head lies inside its target's file, which is not read from "
            "GGUF",
            hint=FROM_DIRECTORY,
        )
    if found == EAGLE3:
        raise CheckpointError(
            f"{file.path}: architecture '{found}' is an Eagle3 drafter, which is not read from GGUF",
            hint=FROM_DIRECTORY,
        )
    if found != ARCHITECTURE:
        what = FOREIGN.get(found, "not a drafter that this version reads")
        raise CheckpointError(
            f"{file.path}: architecture '{found}' is {what}",
            hint=f"supported: {ARCHITECTURE}, as llama.cpp's convert_hf_to_gguf.py writes it",
        )
    for key, plain in PLAIN.items():
        value = file.get(f"dflash.{key}", plain)
        if value != plain:
            raise CheckpointError(f"{file.path}: dflash.{key} is {value}, which is not followed", hint=CONVERT_AGAIN)
    if any(file.get("dflash.attention.sliding_window_pattern") or ()):
        raise CheckpointError(f"{file.path}: its layers slide, which is not followed", hint="take another drafter")


def _base_model(file: GgufFile) -> str:
    """The target, which the model card of a drafter names as its base; a re-upload's card names the drafter instead."""
    names = [name for name in file.base_models() if not DRAFTER_NAME.search(base_name(name))]
    return names[0] if names else ""


def _entries(file: GgufFile) -> dict[str, Entry]:
    """Canonical names; what has none keeps its own, and is refused as unknown."""
    entries = {}
    for name in file.shapes:
        match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
        if name == D2T:
            continue
        if match and match[2] in LAYER:
            entries[f"layers.{match[1]}.{LAYER[match[2]]}.weight"] = Entry(name)
        else:
            entries[TOP.get(name, name)] = Entry(name, shape=_shape_of(name, file.shapes[name]))
    return entries


def _shape_of(name: str, shape: Shape) -> Shape | None:
    """llama.cpp's quantiser drops a first extent of 1."""
    return (1, *shape) if name == "conf_proj.weight" and len(shape) == 1 else None


def _spec(file: GgufFile, entries: Mapping[str, Entry], target: TargetSpec, vocabulary: tuple[int, ...]) -> DrafterSpec:
    shape, w1 = _shape(file), file.shapes.get("markov_w1.weight")
    rank = w1[1] if w1 else 0
    confidence = "confidence_head.proj.weight" in entries
    width = file.shapes["conf_proj.weight"][-1] if confidence else 0
    return DrafterSpec(
        shape=shape,
        vocab_size=w1[0] if w1 else len(file.get(TOKENS, ())) or target.vocab_size,
        block_size=file.count("dflash.block_size"),
        mask_token_id=file.require(MASK, int),
        target_layer_ids=_taps(file, target),
        num_target_layers=target.shape.num_layers,
        markov=MarkovSpec("vanilla" if rank else "none", rank),
        confidence=ConfidenceSpec(confidence, confidence and width == shape.hidden_size + rank and rank > 0),
        own_embedding="embed_tokens.weight" in entries,
        own_head="lm_head.weight" in entries,
        anchor="predicts" if file.get("dflash.sample_from_anchor", True) else "given",
        draft_vocabulary=vocabulary,
    )


def _taps(file: GgufFile, target: TargetSpec) -> tuple[int, ...]:
    """Layers as we count them: what leaves them, where the file counts what enters."""
    taps = tuple(int(layer) - 1 for layer in file.require("dflash.target_layers", list))
    if not taps or list(taps) != sorted(set(taps)) or taps[0] < -1 or taps[-1] >= target.shape.num_layers - 1:
        raise CheckpointError(
            f"{file.path}: dflash.target_layers is {[tap + 1 for tap in taps]}, the target has "
            f"{target.shape.num_layers} layers",
            hint="they rise, and the last layer cannot be tapped: is this drafter another target's?",
        )
    return taps


def _shape(file: GgufFile) -> DecoderShape:
    heads, hidden = file.count("dflash.attention.head_count"), file.count("dflash.embedding_length")
    head_dim = file.count("dflash.attention.key_length", hidden // heads)
    layer = LayerSpec(
        num_heads=heads,
        num_kv_heads=file.count("dflash.attention.head_count_kv", heads),
        head_dim=head_dim,
        intermediate_size=file.count("dflash.feed_forward_length"),
        rope=read_gguf_rope(file, ARCHITECTURE, head_dim),
        qk_norm=True,
    )
    if layer.num_heads % layer.num_kv_heads:
        raise CheckpointError(
            f"{file.path}: {layer.num_heads} heads are not a multiple of {layer.num_kv_heads} key-value heads",
            hint=CONVERT_AGAIN,
        )
    epsilon = file.require("dflash.attention.layer_norm_rms_epsilon", float)
    return DecoderShape(hidden_size=hidden, rms_norm_eps=epsilon, layers=(layer,) * file.count("dflash.block_count"))


def _vocabulary(file: GgufFile, target: TargetSpec) -> Ints:
    """The ids [Vd] that can be drafted, in the order of the rows; none where these are all."""
    if D2T not in file.shapes:
        return np.zeros(0, np.int64)
    ids = file.load_integers(D2T)
    if not is_vocabulary(np.sort(ids), target.vocab_size):
        raise CheckpointError(
            f"{file.path}: d2t does not give different ids below {target.vocab_size}", hint="convert the drafter again"
        )
    return ids
