"""DeepSpec's drafters, DSpark and Eagle3, over Qwen3's layers and Gemma 4's: config.json plus flat tensor names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.checkpoint import DrafterCheckpoint
from dspark_export.checkpoints.config_file import decoder_keys, parse_config, read_json, write_json
from dspark_export.checkpoints.dialects.base import DrafterDialect
from dspark_export.checkpoints.dialects.deepspec_config import CONFIGS
from dspark_export.checkpoints.dialects.drafter_directory import checked_drafter, recorded_target
from dspark_export.checkpoints.recognition import check_directory
from dspark_export.checkpoints.safetensors_source import SafetensorsSource
from dspark_export.checkpoints.spec import DrafterSpec, TargetSpec
from dspark_export.checkpoints.tensors import STORED, Weights, plain_entries
from dspark_export.checkpoints.trained_for import TrainedFor

QWEN3 = "Qwen3DSparkModel"
EMBEDDING = "embed_tokens.weight"
UNUSED_POSITIONS = 32768
"""A drafter goes as far as its target; the key has to be there all the same."""


class DeepSpecDialect(DrafterDialect):
    """A directory with config.json (an architecture of `CONFIGS`) and safetensors."""

    name = "DeepSpec"

    def matches(self, path: Path) -> bool:
        return path.is_dir()

    def read(self, path: Path, target: TargetSpec) -> DrafterCheckpoint:
        check_directory(path)
        file = path / "config.json"
        data = read_json(file)  # what it is comes first: another's tensors are a worse complaint
        _architecture(file, data)
        source = SafetensorsSource(path)
        entries = plain_entries(path, source.shapes)
        spec = read_deepspec_spec(file, data, frozenset(entries))
        weights = Weights(path, source, entries)
        scaled = _with_rounded_scale(path, spec, weights, target)
        return checked_drafter(path, scaled, weights, target, recorded_target(file, data))

    def write(self, checkpoint: DrafterCheckpoint, folder: Path) -> None:
        spec, weights = checkpoint.spec, checkpoint.weights
        if spec.draft_vocabulary or spec.anchor != "predicts" or spec.block_mask != "full":
            raise CheckpointError(
                "DeepSpec's layout has no draft vocabulary, and its blocks predict from the anchor on and see all of "
                "themselves",
                hint="choose another layout: --to speculators or --to gguf",
            )
        write_json(folder / "config.json", deepspec_config(spec) | _target_keys(checkpoint.trained_for))
        tensors = {name: weights.as_stored(name) for name in weights}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def deepspec_config(spec: DrafterSpec) -> dict[str, Any]:
    """The config.json that reads back to `spec`, with the keys that DeepSpec writes."""
    config = decoder_keys(spec.shape) | {
        "architectures": [QWEN3],
        "model_type": "qwen3",
        "vocab_size": spec.vocab_size,
        "max_position_embeddings": UNUSED_POSITIONS,
        "layer_types": ["full_attention"] * spec.shape.num_layers,
        "num_target_layers": spec.num_target_layers,
        "block_size": spec.block_size,
        "mask_token_id": spec.mask_token_id,
        "target_layer_ids": list(spec.target_layer_ids),
        "markov_rank": spec.markov.rank,
        "enable_confidence_head": spec.confidence.enabled,
    }
    if spec.markov.rank:
        config["markov_head_type"] = spec.markov.kind
    if spec.confidence.enabled:
        config["confidence_head_with_markov"] = spec.confidence.with_markov
    return config


def _target_keys(trained_for: TrainedFor) -> dict[str, str]:
    """Keys of `TargetRecord` for what is known; classes have none."""
    keys = {"target_model_name_or_path": trained_for.name} if trained_for.name else {}
    types = zip(("target_model_type", "target_text_model_type"), trained_for.model_types, strict=False)
    return keys | dict(types)


def read_deepspec_spec(path: Path, data: dict[str, Any], tensor_names: frozenset[str]) -> DrafterSpec:
    """Normalise `data`, read from `path`. Raises `CheckpointError` for another architecture or a bad key."""
    config = parse_config(CONFIGS[_architecture(path, data)], path, data)
    return DrafterSpec(
        vocab_size=config.vocab_size,
        target_layer_ids=tuple(config.target_layer_ids),
        num_target_layers=config.num_target_layers,
        own_embedding=EMBEDDING in tensor_names,
        own_head="lm_head.weight" in tensor_names,
        **config.how(path),
    )


def _architecture(path: Path, data: dict[str, Any]) -> str:
    found = data.get("architectures")
    if not isinstance(found, list) or not found or found[0] not in CONFIGS:
        raise CheckpointError(
            f"{path}: architectures is {found!r:.80}{_model_type(data)}, not a drafter that this version reads",
            hint=f"supported: {', '.join(CONFIGS)} (DeepSpec)",
        )
    return str(found[0])


def _model_type(data: dict[str, Any]) -> str:
    """What else a config without architectures calls itself."""
    found = data.get("model_type")
    return f" and model_type {found!r:.40}" if found and not data.get("architectures") else ""


def _with_rounded_scale(path: Path, spec: DrafterSpec, weights: Weights, target: TargetSpec) -> DrafterSpec:
    """`spec` with its embedding's scale in the type that the table is stored in, as DeepSpec's module has it.

    The target's table has the target's scale. Raises `CheckpointError` where that has none.
    """
    if spec.embedding_scale == 1:
        return spec
    if spec.own_embedding:
        stored = STORED.get(weights.source.stored(weights.entries[EMBEDDING].source_name), np.float32)
        return replace(spec, embedding_scale=float(np.asarray(spec.embedding_scale, stored)))
    if target.embedding_scale == 1:
        raise CheckpointError(
            f"{path}: has no embedding of its own, and multiplies its rows, which this target does not",
            hint="it was trained for a Gemma 4 target; or save it with its embedding",
        )
    return replace(spec, embedding_scale=target.embedding_scale)
