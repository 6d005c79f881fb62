"""Targets in a Hugging Face directory, weights in safetensors."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.checkpoint import TargetCheckpoint, identity_files
from dspark_export.checkpoints.config_file import DecoderConfig, GenerationConfig, parse_config, read_json
from dspark_export.checkpoints.consistency import check_control_tokens
from dspark_export.checkpoints.dialects.base import TargetDialect
from dspark_export.checkpoints.quantised import QuantisedSource, Scheme, read_scheme
from dspark_export.checkpoints.recognition import check_directory
from dspark_export.checkpoints.safetensors_source import SafetensorsSource
from dspark_export.checkpoints.seams import TargetFamily, family_architectures, family_of_config
from dspark_export.checkpoints.spec import TargetSpec
from dspark_export.checkpoints.tensors import Array, Entry, Weights, check_depth, check_tensors, plain_entries
from dspark_export.checkpoints.text import read_hf_text

Source = SafetensorsSource | QuantisedSource
Entries = Mapping[str, Entry]
ABOVE = ("bos_token_id", "eos_token_id", "tie_word_embeddings")
SENSES = ("vision_tower.", "multi_modal_projector.", "embed_vision.", "audio_tower.", "embed_audio.")
PICTURES = (*SENSES, *(f"model.{name}" for name in SENSES))
"""How tensors begin that see pictures or hear, of which a bundle has none."""
EMBEDDING, HEAD = "embed_tokens.weight", "lm_head.weight"


class HuggingFaceDialect(TargetDialect):
    """A directory with config.json, safetensors and tokenizer.json."""

    name = "Hugging Face"

    def matches(self, path: Path) -> bool:
        return path.is_dir()

    def read(self, path: Path) -> TargetCheckpoint:
        check_directory(path)
        spec, weights = read_hf_target(path)
        check_control_tokens(path / "config.json", spec)
        text = read_hf_text(path, spec)
        return TargetCheckpoint(
            path=path,
            spec=spec,
            weights=weights,
            text=text,
            files=identity_files(path),
            recorded_names=_recorded_names(path),
        )


def read_hf_target(directory: Path) -> tuple[TargetSpec, Weights]:
    """Spec and (unloaded) weights. Raises `CheckpointError` naming the key or tensor that is wrong."""
    path = directory / "config.json"
    data = read_json(path)
    names = data.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    family = family_of_config(name)
    if family is None:
        raise CheckpointError(
            f"{path}: architectures is {names!r:.80}, not a target that this version reads",
            hint=f"supported: {', '.join(family_architectures())}, or a Llama GGUF",
        )
    composite = name in family.composites
    config = parse_config(family.config, path, {**family.defaults, **(_text_config(path, data) if composite else data)})
    source = _source(directory, read_scheme(path, data), composite=composite)
    entries = plain_entries(directory, source.shapes)
    spec = _spec(config, path, family, _stored(source, entries), tied=_ties(config, directory, source, entries))
    return spec, _weights(directory, source, entries, spec, family)


def _recorded_names(directory: Path) -> tuple[str, ...]:
    """What transformers wrote until its version 5: where the model was loaded from before it was saved."""
    found = read_json(directory / "config.json").get("_name_or_path")
    return (found,) if isinstance(found, str) else ()


def _source(directory: Path, scheme: Scheme | None, *, composite: bool) -> Source:
    packed = scheme.endings if scheme else ()
    source = SafetensorsSource(directory, packed=packed, without=PICTURES if composite else ())
    return source if scheme is None else QuantisedSource(directory, source, scheme)


def _text_config(path: Path, data: dict[str, Any]) -> dict[str, Any]:
    """The text model's keys, and what a model for pictures and text says above them. Raises `CheckpointError`."""
    text = data.get("text_config")
    if not isinstance(text, dict):
        raise CheckpointError(f"{path}: no 'text_config'", hint="fetch the config again")
    return {key: data[key] for key in ABOVE if key in data} | text


def _stored(source: Source, entries: Entries) -> str:
    """What the embedding's numbers are stored as; nothing where it is missing."""
    return source.stored(entries[EMBEDDING].source_name) if EMBEDDING in entries else ""


def _spec(config: DecoderConfig, path: Path, family: TargetFamily, stored: str, *, tied: bool) -> TargetSpec:
    return TargetSpec(
        architecture=family.name,
        shape=family.read_shape(config, path),
        vocab_size=config.vocab_size,
        max_positions=config.max_position_embeddings,
        tied_embeddings=tied,
        eos_token_ids=_eos_ids(config, path.parent),
        bos_token_id=config.bos_token_id,
        **family.hf_facts(config, stored),
    )


def _eos_ids(config: DecoderConfig, directory: Path) -> tuple[int, ...]:
    """generation_config.json knows the ids that end a turn; config.json is the fallback."""
    path = directory / "generation_config.json"
    if path.exists():
        ids = parse_config(GenerationConfig, path).eos_ids()
        if ids:
            return ids
    return config.eos_ids()


def _weights(directory: Path, source: Source, entries: Entries, spec: TargetSpec, family: TargetFamily) -> Weights:
    unused = (HEAD,) if spec.tied_embeddings else ()  # some exporters write the tied table twice
    kept = {name: entry for name, entry in entries.items() if name not in unused}
    named, whole = family.hf_entries(directory, spec, kept, source)
    used = {name: _changed(entry, family.hf_transform(name)) for name, entry in named.items()}
    weights = Weights(directory, whole, used)
    check_depth(directory, weights.shapes, spec.shape.num_layers)
    check_tensors(directory, weights.shapes, family.tensors(spec))
    return weights


def _changed(entry: Entry, transform: Callable[[Array], Array] | None) -> Entry:
    return entry if transform is None else replace(entry, transform=transform)


def _ties(config: DecoderConfig, directory: Path, source: Source, entries: Entries) -> bool:
    """Whether the head is the embedding: as the config says, unless the file holds another head (transformers 5)."""
    if not config.tie_word_embeddings:
        return False
    if EMBEDDING not in entries or HEAD not in entries:
        return True
    if source.same(entries[EMBEDDING].source_name, entries[HEAD].source_name):
        return True
    message = f"{directory}: config.json ties the head to the embedding, and the weights hold another head: it is used"
    warnings.warn(message, UserWarning, stacklevel=4)
    return False
