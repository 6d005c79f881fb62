"""Eagle3 drafters in the plain layout (`LlamaForCausalLMEagle3`) of the paper's code, SpecForge, SGLang and vLLM."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.checkpoint import DrafterCheckpoint
from dspark_export.checkpoints.config_file import parse_config, read_json
from dspark_export.checkpoints.dialects.base import DrafterDialect
from dspark_export.checkpoints.dialects.draft_ids import D2T, T2D, read_draft_ids
from dspark_export.checkpoints.dialects.drafter_directory import checked_drafter, peek_config
from dspark_export.checkpoints.dialects.eagle3_config import Eagle3Config
from dspark_export.checkpoints.recognition import check_directory
from dspark_export.checkpoints.reduction import in_rising_order
from dspark_export.checkpoints.safetensors_source import SafetensorsSource
from dspark_export.checkpoints.seams import get_family
from dspark_export.checkpoints.spec import ConfidenceSpec, DrafterSpec, MarkovSpec, TargetSpec
from dspark_export.checkpoints.tensors import Entry, Weights, plain_entries

ARCHITECTURE, LAYER = "LlamaForCausalLMEagle3", "midlayer."
HEAD, FC = "lm_head.weight", "fc.weight"
DRAFT_LENGTH = 5
"""Tokens a round, which no checkpoint says."""


class Eagle3Dialect(DrafterDialect):
    """A directory whose config.json names the architecture, and safetensors."""

    name = "Eagle3"

    def matches(self, path: Path) -> bool:
        config = peek_config(path)
        return "speculators_model_type" not in config and config.get("architectures") == [ARCHITECTURE]

    def read(self, path: Path, target: TargetSpec) -> DrafterCheckpoint:
        check_directory(path)
        file = path / "config.json"
        config = parse_config(Eagle3Config, file, {**get_family("llama").defaults, **read_json(file)})
        source = SafetensorsSource(path, integers=frozenset((D2T, T2D)))
        entries = _entries(path, source)
        _check_head(path, config, entries)
        ids = read_draft_ids(path, source, config.vocab_size, config.draft_vocab_size or config.vocab_size)
        weights = Weights(path, source, in_rising_order(entries, ids))
        spec = _spec(file, config, target, weights, tuple(np.sort(ids).tolist()))
        return checked_drafter(path, spec, weights, target)


def _entries(path: Path, source: SafetensorsSource) -> dict[str, Entry]:
    """Canonical names: the one layer is called `midlayer`."""
    plain = plain_entries(path, [name for name in source.shapes if name not in (D2T, T2D)])
    return {f"layers.0.{name.removeprefix(LAYER)}" if name.startswith(LAYER) else name: e for name, e in plain.items()}


def _check_head(path: Path, config: Eagle3Config, entries: dict[str, Entry]) -> None:
    """Raises `CheckpointError` where a head is announced and not there: the target's is another."""
    if config.draft_vocab_size is not None and HEAD not in entries:
        raise CheckpointError(
            f"{path}: draft_vocab_size is {config.draft_vocab_size}, but no tensor {HEAD}",
            hint="the checkpoint lacks its trained head; fetch it again",
        )


def _spec(
    file: Path, config: Eagle3Config, target: TargetSpec, weights: Weights, vocabulary: tuple[int, ...]
) -> DrafterSpec:
    depth, width = target.shape.num_layers, weights.shapes.get(FC, (0, 0))[-1]
    return DrafterSpec(
        shape=config.decoder_shape(file),
        vocab_size=config.vocab_size,
        block_size=DRAFT_LENGTH,
        mask_token_id=0,
        target_layer_ids=config.taps(file, depth, width // config.hidden_size or 3),
        num_target_layers=depth,
        markov=MarkovSpec("none", 0),
        confidence=ConfidenceSpec(enabled=False, with_markov=False),
        own_embedding="embed_tokens.weight" in weights,
        own_head=HEAD in weights,
        method="eagle3",
        draft_vocabulary=vocabulary,
        chain=config.chain,
    )
