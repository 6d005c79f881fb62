"""Targets in a Hugging Face directory: Llama and Qwen3, weights in safetensors."""

from __future__ import annotations

from pathlib import Path

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.config_file import DecoderConfig, GenerationConfig, parse_config, read_json
from dspark_export.checkpoints.expected import target_tensors
from dspark_export.checkpoints.safetensors_source import SafetensorsSource
from dspark_export.checkpoints.spec import TargetSpec
from dspark_export.checkpoints.tensors import Entry, Weights, check_depth, check_tensors

ARCHITECTURES = {"LlamaForCausalLM": "llama", "Qwen3ForCausalLM": "qwen3"}


def read_hf_target(directory: Path) -> tuple[TargetSpec, Weights]:
    """Spec and (unloaded) weights. Raises `CheckpointError` naming the key or tensor that is wrong."""
    path = directory / "config.json"
    data = read_json(path)
    names = data.get("architectures")
    if not isinstance(names, list) or names[:1] not in [[name] for name in ARCHITECTURES]:
        raise CheckpointError(
            f"{path}: architectures is {names!r:.80}, not a target that this version reads",
            hint=f"supported: {', '.join(ARCHITECTURES)}, or a Llama GGUF",
        )
    config = parse_config(DecoderConfig, path, data)
    spec = _spec(config, path, ARCHITECTURES[names[0]])
    weights = _weights(directory, spec)
    return spec, weights


def _spec(config: DecoderConfig, path: Path, architecture: str) -> TargetSpec:
    return TargetSpec(
        architecture=architecture,
        shape=config.decoder_shape(path, qk_norm=architecture == "qwen3"),
        vocab_size=config.vocab_size,
        max_positions=config.max_position_embeddings,
        tied_embeddings=config.tie_word_embeddings,
        eos_token_ids=_eos_ids(config, path.parent),
        bos_token_id=config.bos_token_id,
    )


def _eos_ids(config: DecoderConfig, directory: Path) -> tuple[int, ...]:
    """generation_config.json knows the ids that end a turn; config.json is the fallback."""
    path = directory / "generation_config.json"
    if path.exists():
        ids = parse_config(GenerationConfig, path).eos_ids()
        if ids:
            return ids
    return config.eos_ids()


def _weights(directory: Path, spec: TargetSpec) -> Weights:
    source = SafetensorsSource(directory)
    entries = {
        name.removeprefix("model."): Entry(name)
        for name in source.shapes
        if not name.endswith("rotary_emb.inv_freq")  # a buffer that old checkpoints carry; derived from config
    }
    if spec.tied_embeddings:
        entries.pop("lm_head.weight", None)  # some exporters write the tied table twice
    weights = Weights(directory, source, entries)
    check_depth(directory, weights.shapes, spec.shape.num_layers)
    check_tensors(directory, weights.shapes, target_tensors(spec))
    return weights
