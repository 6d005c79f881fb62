"""Dialects by name, imported only when a path is looked at. The first that matches reads it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.dialects.base import DrafterDialect, TargetDialect
from dspark_export.checkpoints.recognition import check_directory, check_target_path

TARGETS = {
    "Hugging Face": "dspark_export.checkpoints.dialects.hugging_face:HuggingFaceDialect",
    "GGUF": "dspark_export.checkpoints.dialects.gguf:GgufDialect",
}
DRAFTERS = {
    "speculators": "dspark_export.checkpoints.dialects.speculators:SpeculatorsDialect",
    "SpecForge": "dspark_export.checkpoints.dialects.specforge:SpecForgeDialect",
    "DFlash": "dspark_export.checkpoints.dialects.dflash:DFlashDialect",
    "Eagle3": "dspark_export.checkpoints.dialects.eagle3:Eagle3Dialect",
    "Llama-labelled": "dspark_export.checkpoints.dialects.eagle3_unnamed:UnnamedEagle3Dialect",
    "NextN": "dspark_export.checkpoints.dialects.next_n:NextNDialect",
    "MTP": "dspark_export.checkpoints.dialects.mtp:MtpDialect",
    "DeepSpec": "dspark_export.checkpoints.dialects.deepspec:DeepSpecDialect",
    "GGUF": "dspark_export.checkpoints.dialects.gguf_drafter:GgufDrafterDialect",
}


def register_target_dialect(name: str, place: str) -> None:
    """Let `open_target` know a dialect: `place` is "module:Class". It is asked before those there are."""
    _put_first(TARGETS, name, place)


def register_drafter_dialect(name: str, place: str) -> None:
    """Let `open_drafter` know a dialect: `place` is "module:Class". It is asked before those there are."""
    _put_first(DRAFTERS, name, place)


def target_dialects() -> tuple[str, ...]:
    """Names of what `target_dialect` knows."""
    return tuple(TARGETS)


def drafter_dialects() -> tuple[str, ...]:
    """Names of what `drafter_dialect` knows."""
    return tuple(DRAFTERS)


def target_dialect(path: Path) -> TargetDialect:
    """What reads the target at `path`. Raises `CheckpointError` saying what is there instead."""
    for place in TARGETS.values():
        dialect: TargetDialect = _load(place)
        if dialect.matches(path):
            return dialect
    check_target_path(path)
    raise CheckpointError(f"{path}: not a target of a layout that is read", hint=f"read are: {', '.join(TARGETS)}")


def drafter_dialect(path: Path) -> DrafterDialect:
    """What reads the drafter at `path`. Raises `CheckpointError` saying what is there instead."""
    for place in DRAFTERS.values():
        dialect: DrafterDialect = _load(place)
        if dialect.matches(path):
            return dialect
    if path.is_dir():
        check_directory(path)
    raise CheckpointError(
        f"{path}: no such directory", hint="--drafter takes a directory with config.json and model.safetensors"
    )


def _put_first(registry: dict[str, str], name: str, place: str) -> None:
    others = {known: where for known, where in registry.items() if known != name}
    registry.clear()
    registry.update({name: place} | others)


def _load(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)()
