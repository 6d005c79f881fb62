"""Open a target or a drafter whatever its dialect, validated as a pair before any heavy work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.config_file import read_json
from dspark_export.checkpoints.drafter_deepspec import read_deepspec_spec
from dspark_export.checkpoints.expected import drafter_optional_tensors, drafter_tensors
from dspark_export.checkpoints.gguf_file import GgufFile
from dspark_export.checkpoints.recognition import check_directory, check_target_path
from dspark_export.checkpoints.safetensors_source import SafetensorsSource
from dspark_export.checkpoints.spec import DrafterSpec, TargetSpec
from dspark_export.checkpoints.target_gguf import read_gguf_target
from dspark_export.checkpoints.target_hf import read_hf_target
from dspark_export.checkpoints.tensors import Weights, check_depth, check_tensors, plain_entries
from dspark_export.checkpoints.text import TargetText, read_gguf_text, read_hf_text


@dataclass(frozen=True)
class TargetCheckpoint:
    """A target, opened but not loaded: description, weights on demand, and how its text is written."""

    path: Path
    spec: TargetSpec
    weights: Weights
    text: TargetText
    files: list[Path]
    """Every file that defines this target, for its identity."""


@dataclass(frozen=True)
class DrafterCheckpoint:
    """A drafter, opened but not loaded."""

    path: Path
    spec: DrafterSpec
    weights: Weights
    files: list[Path]
    """Every file that defines this drafter, for its identity."""


def identity_files(path: Path) -> list[Path]:
    """A directory's configs, tokenizer and weights."""
    wanted = {".json", ".jinja", ".safetensors"}
    return sorted(file for file in path.iterdir() if file.suffix in wanted)


def open_target(path: Path) -> TargetCheckpoint:
    """Read a GGUF file or a Hugging Face directory. Raises `CheckpointError`."""
    check_target_path(path)
    return _open_hf(path) if path.is_dir() else _open_gguf(path)


def open_drafter(path: Path, target: TargetSpec) -> DrafterCheckpoint:
    """Read a DeepSpec directory and hold it against `target`. Raises `CheckpointError`."""
    if not path.is_dir():
        raise CheckpointError(
            f"{path}: no such directory", hint="--drafter takes a directory with config.json and model.safetensors"
        )
    check_directory(path)
    read_json(path / "config.json")  # a missing config is the clearer complaint, so it comes first
    source = SafetensorsSource(path)
    entries = plain_entries(path, source.shapes)
    spec = read_deepspec_spec(path, frozenset(entries))
    weights = Weights(path, source, entries)
    _check_pair(path, spec, target)
    check_depth(path, weights.shapes, spec.shape.num_layers)
    check_tensors(path, weights.shapes, drafter_tensors(spec), drafter_optional_tensors(spec))
    return DrafterCheckpoint(path, spec, weights, identity_files(path))


def _open_gguf(path: Path) -> TargetCheckpoint:
    file = GgufFile(path)
    spec, weights = read_gguf_target(file)
    _check_control_tokens(path, spec)
    return TargetCheckpoint(path, spec, weights, read_gguf_text(file, spec), file.paths)


def _open_hf(path: Path) -> TargetCheckpoint:
    spec, weights = read_hf_target(path)
    _check_control_tokens(path / "config.json", spec)
    return TargetCheckpoint(path, spec, weights, read_hf_text(path, spec), identity_files(path))


def _check_control_tokens(path: Path, spec: TargetSpec) -> None:
    for name, token_id in (*(("eos", eos) for eos in spec.eos_token_ids), ("bos", spec.bos_token_id or 0)):
        if token_id >= spec.vocab_size:
            raise CheckpointError(
                f"{path}: {name}_token_id {token_id} lies outside the vocabulary of {spec.vocab_size}",
                hint="correct the token id; generation would never end where it should",
            )


def _check_pair(path: Path, drafter: DrafterSpec, target: TargetSpec) -> None:
    for what, mine, theirs in (
        ("hidden_size", drafter.shape.hidden_size, target.shape.hidden_size),
        ("vocab_size", drafter.vocab_size, target.vocab_size),
        ("num_target_layers", drafter.num_target_layers, target.shape.num_layers),
    ):
        if mine != theirs:
            raise CheckpointError(
                f"{path}: drafter has {what} {mine}, the target has {theirs}",
                hint="this drafter was trained for another target",
            )
