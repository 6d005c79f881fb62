"""Writing a drafter as GGUF, as llama.cpp's converter would: what `gguf_drafter` reads back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.checkpoint import DrafterCheckpoint, TargetCheckpoint
from dspark_export.checkpoints.config_file import decoder_keys
from dspark_export.checkpoints.dialects.gguf_drafter import ARCHITECTURE, D2T, LAYER, MASK, TOP
from dspark_export.checkpoints.gguf_file import GgufFile
from dspark_export.checkpoints.spec import DrafterSpec
from dspark_export.checkpoints.trained_for import TrainedFor, repository

HEAD, EMBEDDING = "lm_head.weight", "embed_tokens.weight"
TOKENIZER = "tokenizer."
FILE_NAME = "drafter.gguf"
KINDS = {
    "float32": GGMLQuantizationType.F32,
    "float16": GGMLQuantizationType.F16,
    "bfloat16": GGMLQuantizationType.BF16,
}


def write_gguf_drafter(checkpoint: DrafterCheckpoint, target: TargetCheckpoint, folder: Path) -> Path:
    """Write `folder`/drafter.gguf, tensors as they are stored and norms in float32, with the target's tokenizer.

    llama.cpp wants the head of a reduced drafter in the file: if the drafter has none, the target's lines are put there
    as its file has them. Raises `CheckpointError` for a drafter that the layout cannot say, and for a target that is no
    GGUF file.
    """
    _check(checkpoint.spec)
    source = target.weights.source
    if not isinstance(source, GgufFile):
        raise CheckpointError(
            f"{target.path}: a GGUF drafter carries its target's tokenizer, which is read from GGUF targets only",
            hint="pass the target's .gguf file as --target",
        )
    writer = GGUFWriter(folder / FILE_NAME, ARCHITECTURE)
    for key, value in (_base_model(checkpoint.trained_for) | _metadata(checkpoint.spec)).items():
        add_metadata(writer, key, value)
    _copy_tokenizer(writer, source)
    for name, array in _tensors(checkpoint):
        _add_tensor(writer, name, array)
    if checkpoint.spec.draft_vocabulary and HEAD not in checkpoint.weights:
        head = target.weights.entries[HEAD if HEAD in target.weights else EMBEDDING].source_name
        rows, kind = source.raw_rows(head, np.array(checkpoint.spec.draft_vocabulary))
        writer.add_tensor("output.weight", rows, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / FILE_NAME


def _check(spec: DrafterSpec) -> None:
    decoder_keys(spec.shape)  # raises for layers that differ, windows, biases
    if spec.block_mask != "full":
        raise CheckpointError("causal blocks cannot be written as GGUF", hint="choose --to speculators")
    if spec.markov.kind not in ("none", "vanilla"):
        raise CheckpointError(
            f"a Markov head of kind {spec.markov.kind} cannot be written as GGUF", hint="choose --to speculators"
        )
    if spec.shape.layers[0].rope.kind not in ("default", "linear"):
        raise CheckpointError(
            f"rope_type '{spec.shape.layers[0].rope.kind}' cannot be written as GGUF", hint="choose --to speculators"
        )


def _metadata(spec: DrafterSpec) -> dict[str, Any]:
    layer = spec.shape.layers[0]
    facts: dict[str, Any] = {
        "block_count": spec.shape.num_layers,
        "context_length": 32768,  # a drafter goes as far as its target
        "embedding_length": spec.shape.hidden_size,
        "feed_forward_length": layer.intermediate_size,
        "attention.head_count": layer.num_heads,
        "attention.head_count_kv": layer.num_kv_heads,
        "attention.key_length": layer.head_dim,
        "attention.value_length": layer.head_dim,
        "attention.layer_norm_rms_epsilon": float(spec.shape.rms_norm_eps),
        "rope.freq_base": float(layer.rope.theta),
        "block_size": spec.block_size,
        "target_layers": [tap + 1 for tap in spec.target_layer_ids],
        "sample_from_anchor": spec.anchor == "predicts",
        "has_confidence_head": spec.confidence.enabled,
    }
    if layer.rope.kind == "linear":
        facts |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(layer.rope.factor)}
    return {f"{ARCHITECTURE}.{key}": value for key, value in facts.items()} | {MASK: spec.mask_token_id}


def _base_model(trained_for: TrainedFor) -> dict[str, Any]:
    """The target where a repository is recorded: keys of a model's card, as llama.cpp's converter copies them."""
    found = repository(trained_for.name)
    if not found:
        return {}
    owner, _, name = found.partition("/")
    about = {"name": name, "organization": owner, "repo_url": f"https://huggingface.co/{found}"}
    return {"general.base_model.count": 1} | {f"general.base_model.0.{key}": value for key, value in about.items()}


def _tensors(checkpoint: DrafterCheckpoint) -> Iterator[tuple[str, Any]]:
    """(name in the file, array in the type it is stored in)."""
    spec, weights = checkpoint.spec, checkpoint.weights
    names = {canonical: name for name, canonical in TOP.items()}
    layers = {inner: stem for stem, inner in LAYER.items()}
    for canonical in weights:
        if canonical in names:
            yield names[canonical], weights.as_stored(canonical)
        else:
            _, block, inner = canonical.removesuffix(".weight").split(".", 2)
            yield f"blk.{block}.{layers[inner]}.weight", weights.as_stored(canonical)
    if spec.draft_vocabulary:
        yield D2T, np.array(spec.draft_vocabulary, np.int64)


def _add_tensor(writer: GGUFWriter, name: str, array: Any) -> None:
    if array.dtype == np.int64:
        writer.add_tensor(name, array)
        return
    if array.ndim == 1:  # llama.cpp adds and multiplies these in float32
        array = array.astype(np.float32)
    kind = KINDS[array.dtype.name]
    data = array.view(np.uint8) if array.dtype.name == "bfloat16" else array
    writer.add_tensor(name, data, raw_dtype=kind)


def _copy_tokenizer(writer: GGUFWriter, source: GgufFile) -> None:
    """Every key of the target's tokenizer but the mask token, which is the drafter's own."""
    for key, kind, item in source.keys_of(TOKENIZER):
        if key != MASK:
            writer.add_key_value(key, source.get(key), kind, item)


def add_metadata(writer: GGUFWriter, key: str, value: Any) -> None:
    """Write a metadata key, its type chosen by the value's: 32-bit numbers, and lists of one type."""
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)
