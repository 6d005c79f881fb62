"""SpecForge's DSpark drafters (`DSparkDraftModel`): DeepSpec's model, its heads described inside `dflash_config`."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.checkpoint import DrafterCheckpoint
from dspark_export.checkpoints.config_file import read_json
from dspark_export.checkpoints.dialects.base import DrafterDialect
from dspark_export.checkpoints.dialects.deepspec import QWEN3, read_deepspec_spec
from dspark_export.checkpoints.dialects.drafter_directory import checked_drafter, peek_config
from dspark_export.checkpoints.recognition import check_directory
from dspark_export.checkpoints.safetensors_source import SafetensorsSource
from dspark_export.checkpoints.spec import TargetSpec
from dspark_export.checkpoints.tensors import Entry, Weights, plain_entries

NESTED, PROJECTOR = "dflash_config", "dspark"
OLD_PREFIX = "logit_head."
"""Of the heads' tensors in early files."""
NAMES = ("DSparkDraftModel", "DFlashDraftModel", QWEN3)
"""The second in early files; the third after SpecForge's normalize_dflash_export.py, which copies the heads' keys out
of `dflash_config` for SGLang."""
LEFT_OUT = {"markov_rank": 0, "markov_head_type": "vanilla", "confidence_head_with_markov": False}
"""What its class takes for keys of `dflash_config` that are absent. The tensors have to be those of such heads."""
CHANGED = ("causal", "use_swa", "attention_sink_bias")
"""Of `dflash_config`: what blocks of these drafters are not."""
EXPERTS = ("n_routed_experts", "moe_intermediate_size", "num_experts")


class SpecForgeDialect(DrafterDialect):
    """A directory whose config.json has `dflash_config` with `projector_type` "dspark", and safetensors."""

    name = "SpecForge"

    def matches(self, path: Path) -> bool:
        config = peek_config(path)
        nested = config.get(NESTED)
        return (
            "speculators_model_type" not in config
            and isinstance(nested, dict)
            and nested.get("projector_type") == PROJECTOR
        )

    def read(self, path: Path, target: TargetSpec) -> DrafterCheckpoint:
        check_directory(path)
        file = path / "config.json"
        data = _flat(file, read_json(file))
        source = SafetensorsSource(path)
        entries = _entries(path, source)
        spec = read_deepspec_spec(file, data, frozenset(entries))
        checkpoint = checked_drafter(path, spec, Weights(path, source, entries), target)
        message = f"{path}: SpecForge's files do not say whether the anchor's position predicts: its trainer has it so"
        warnings.warn(message, UserWarning, stacklevel=4)
        return checkpoint


def _flat(file: Path, data: dict[str, Any]) -> dict[str, Any]:
    """DeepSpec's keys. Raises `CheckpointError` for what SpecForge has and DeepSpec has not."""
    nested = data[NESTED]
    _check_kind(file, data, nested)
    experts = [key for key in EXPERTS if data.get(key)]
    if experts:
        raise CheckpointError(
            f"{file}: {experts[0]} is {data[experts[0]]}: a drafter with experts, which is not read",
            hint="take one with dense layers",
        )
    if data.get("draft_vocab_size") not in (None, data.get("vocab_size")):
        raise CheckpointError(
            f"{file}: draft_vocab_size is {data['draft_vocab_size']}, and this layout does not say of which tokens",
            hint="save it in the layout of the speculators library, which has d2t",
        )
    return {
        **LEFT_OUT,
        "enable_confidence_head": _trained_confidence(nested),
        **data,
        **nested,
        "architectures": [QWEN3],
    }


def _trained_confidence(nested: dict[str, Any]) -> bool:
    """Whether its class makes a confidence head where `enable_confidence_head` is absent: if the head's loss counts."""
    weight = nested.get("confidence_head_alpha", 0.0)
    return isinstance(weight, int | float) and weight > 0


def _check_kind(file: Path, data: dict[str, Any], nested: dict[str, Any]) -> None:
    """Raises `CheckpointError` for another's model with this projector, and for what is said twice and differently."""
    found = data.get("architectures")
    if not isinstance(found, list) or len(found) != 1 or found[0] not in NAMES:
        raise CheckpointError(
            f"{file}: architectures is {found!r:.80}, not a drafter that this version reads",
            hint=f"supported: {NAMES[0]} (SpecForge)",
        )
    for key in CHANGED:
        if nested.get(key):
            raise CheckpointError(
                f"{file}: {NESTED}.{key} is {nested[key]!r:.40}, which is not followed", hint="take another drafter"
            )
    twice = next((key for key in nested if data.get(key) not in (None, nested[key])), None)
    if twice is not None:
        raise CheckpointError(
            f"{file}: {twice} is both {data[twice]!r:.40} and, in {NESTED}, {nested[twice]!r:.40}",
            hint="correct whichever is wrong",
        )


def _entries(path: Path, source: SafetensorsSource) -> dict[str, Entry]:
    """Canonical names; the prefix of early files' heads is taken off."""
    names = {name.removeprefix(OLD_PREFIX): name for name in source.shapes}
    plain = plain_entries(path, names)
    return {canonical: replace(entry, source_name=names[entry.source_name]) for canonical, entry in plain.items()}
