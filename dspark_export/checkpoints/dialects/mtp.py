"""MTP heads where they were trained: inside their target's own checkpoint, or as SpecForge writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.checkpoint import DrafterCheckpoint
from dspark_export.checkpoints.config_file import read_json
from dspark_export.checkpoints.dialects.base import DrafterDialect
from dspark_export.checkpoints.dialects.drafter_directory import OpenedDrafter, peek_config, peek_tensors
from dspark_export.checkpoints.dialects.mtp_heads import read_mimo, read_qwen
from dspark_export.checkpoints.recognition import check_directory
from dspark_export.checkpoints.safetensors_source import SafetensorsSource
from dspark_export.checkpoints.spec import TargetSpec

READERS: dict[str, Callable[[OpenedDrafter], DrafterCheckpoint]] = {
    "MiMoForCausalLM": read_mimo,
    "Qwen3_5MTPDraftModel": read_qwen,
}
"""By the only one of `architectures`."""
COUNTS = ("num_nextn_predict_layers", "mtp_num_hidden_layers")
"""Keys of models that have such a head; those of pictures and text have them in `text_config`."""
OTHERS = ("speculators_model_type", "dspark_block_size", "dflash_config")
"""Keys of drafters of other layouts."""
NOT_FOLLOWED = {
    "kv_lora_rank": "latent attention (MLA)",
    "attn_output_gate": "attention with an output gate",
    "n_routed_experts": "experts",
    "num_experts": "experts",
}
PARTIAL = "partial_rotary_factor"
TENSORS = ("mtp.", "model.mtp.", "mtp_layers.", "model.mtp_layers.")
"""How tensors of such heads begin; Qwen3-Next's config has no key for its own."""


class MtpDialect(DrafterDialect):
    """A directory whose config.json announces an MTP head, or that holds one; it may be the target's own."""

    name = "MTP"

    def matches(self, path: Path) -> bool:
        config = peek_config(path)
        if any(key in config for key in OTHERS) or str(config.get("model_type")).startswith("deepseek_v4"):
            return False
        said = _architecture(config) in READERS or any(_text(config).get(key) for key in COUNTS)
        return said or any(name.startswith(TENSORS) for name in peek_tensors(path))

    def read(self, path: Path, target: TargetSpec) -> DrafterCheckpoint:
        check_directory(path)
        data = read_json(path / "config.json")
        reader = READERS.get(_architecture(data))
        if reader is None:
            raise _refusal(path / "config.json", data)
        return reader(OpenedDrafter(path, data, SafetensorsSource(path), target))


def _architecture(config: dict[str, Any]) -> str:
    found = config.get("architectures")
    return str(found[0]) if isinstance(found, list) and len(found) == 1 else ""


def _text(config: dict[str, Any]) -> dict[str, Any]:
    inner = config.get("text_config")
    return config | inner if isinstance(inner, dict) else config


def _refusal(file: Path, data: dict[str, Any]) -> CheckpointError:
    """Names the key that says why a head is not read, or the class."""
    config, hint = _text(data), f"MTP heads are read of {next(iter(READERS))}; take an Eagle3 or DFlash drafter"
    rope = config.get("rope_parameters")
    part = config.get(PARTIAL) or (rope.get(PARTIAL) if isinstance(rope, dict) else None) or 1
    if part != 1:
        return CheckpointError(f"{file}: {PARTIAL} is {part}: an MTP head whose heads are turned in part", hint=hint)
    for key, what in NOT_FOLLOWED.items():
        if config.get(key):
            return CheckpointError(f"{file}: {key} is {config[key]!r:.20}: an MTP head with {what}", hint=hint)
    found = data.get("architectures")
    return CheckpointError(f"{file}: architectures is {found!r:.80}, whose MTP head is not read", hint=hint)
