"""Readers: a checkpoint of any supported dialect becomes a spec, lazily loaded weights and a tokenizer."""

from dspark_export.checkpoints.checkpoint import DrafterCheckpoint, TargetCheckpoint
from dspark_export.checkpoints.open import open_drafter, open_target, with_draft_length
from dspark_export.checkpoints.reduction import check_size, check_vocabulary, reduce_drafter
from dspark_export.checkpoints.spec import (
    ConfidenceSpec,
    DecoderShape,
    DrafterSpec,
    ExpertSpec,
    LayerSpec,
    MarkovSpec,
    RopeSpec,
    TargetSpec,
)
from dspark_export.checkpoints.tensors import Weights

__all__ = [
    "ConfidenceSpec",
    "DecoderShape",
    "DrafterCheckpoint",
    "DrafterSpec",
    "ExpertSpec",
    "LayerSpec",
    "MarkovSpec",
    "RopeSpec",
    "TargetCheckpoint",
    "TargetSpec",
    "Weights",
    "check_size",
    "check_vocabulary",
    "open_drafter",
    "open_target",
    "reduce_drafter",
    "with_draft_length",
]
