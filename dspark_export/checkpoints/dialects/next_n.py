"""Next-token-prediction heads with DeepSeek-V3's names and Llama's layers (`LlamaForCausalLMNextN`)."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import PositiveInt

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.checkpoint import DrafterCheckpoint
from dspark_export.checkpoints.config_file import UniformConfig, parse_config, read_json
from dspark_export.checkpoints.dialects.base import DrafterDialect
from dspark_export.checkpoints.dialects.drafter_directory import checked_drafter, peek_config
from dspark_export.checkpoints.recognition import check_directory
from dspark_export.checkpoints.safetensors_source import SafetensorsSource
from dspark_export.checkpoints.seams import get_family
from dspark_export.checkpoints.spec import ChainSpec, ConfidenceSpec, DecoderShape, DrafterSpec, MarkovSpec, TargetSpec
from dspark_export.checkpoints.tensors import Entry, Weights, plain_entries

ARCHITECTURE = "LlamaForCausalLMNextN"
NAMES = {
    "enorm.weight": "stages.{}.embedding_norm.weight",
    "hnorm.weight": "stages.{}.hidden_norm.weight",
    "eh_proj.weight": "stages.{}.fc.weight",
    "shared_head.norm.weight": "stages.{}.norm.weight",
}
TABLES = {"embed_tokens.weight": "embed_tokens.weight", "shared_head.head.weight": "lm_head.weight"}
"""Of a single stage; others leave these to the target."""
LAYER = re.compile(r"layers\.(\d+)\.(.+)")
DRAFT_LENGTH = 3
"""Tokens a round, which no checkpoint says."""


class NextNConfig(UniformConfig):
    """The target's config; `num_hidden_layers` counts its layers, behind which the head's are numbered."""

    num_nextn_predict_layers: PositiveInt


class NextNDialect(DrafterDialect):
    """A directory whose config.json names the architecture, and safetensors."""

    name = "NextN"

    def matches(self, path: Path) -> bool:
        return peek_config(path).get("architectures") == [ARCHITECTURE]

    def read(self, path: Path, target: TargetSpec) -> DrafterCheckpoint:
        check_directory(path)
        file = path / "config.json"
        config = parse_config(NextNConfig, file, {**get_family("llama").defaults, **read_json(file)})
        source = SafetensorsSource(path)
        entries = _entries(path, config, source)
        spec = _spec(file, config, entries)
        return checked_drafter(path, spec, Weights(path, source, entries), target)


def _entries(path: Path, config: NextNConfig, source: SafetensorsSource) -> dict[str, Entry]:
    """Canonical names. Raises `CheckpointError` where the stages in the file are not as many as the config says."""
    first, count = config.num_hidden_layers, config.num_nextn_predict_layers
    entries: dict[str, Entry] = {}
    numbers = set()
    for name, entry in plain_entries(path, source.shapes).items():
        found = LAYER.fullmatch(name)
        if found is None:
            entries[name] = entry
            continue
        number, rest = int(found[1]), found[2]
        numbers.add(number)
        entries[_canonical(number - first, rest, single=count == 1)] = entry
    if numbers != set(range(first, first + count)):
        raise CheckpointError(
            f"{path}: num_nextn_predict_layers is {count} behind {first} layers, and the file has layers "
            f"{sorted(numbers)}",
            hint="correct whichever is wrong; tools that quantise a model leave these layers out",
        )
    return entries


def _canonical(stage: int, rest: str, *, single: bool) -> str:
    if rest in NAMES:
        return NAMES[rest].format(stage)
    return TABLES[rest] if single and rest in TABLES else f"layers.{stage}.{rest}"


def _spec(file: Path, config: NextNConfig, entries: dict[str, Entry]) -> DrafterSpec:
    """The head reads the target's state behind its final norm, and at further steps its own behind `shared_head.norm`,
    as transformers and SGLang have it."""
    shape, stages = config.decoder_shape(file), config.num_nextn_predict_layers
    return DrafterSpec(
        shape=DecoderShape(
            hidden_size=shape.hidden_size, rms_norm_eps=shape.rms_norm_eps, layers=shape.layers[:1] * stages
        ),
        vocab_size=config.vocab_size,
        block_size=DRAFT_LENGTH,
        mask_token_id=0,
        target_layer_ids=(config.num_hidden_layers,),
        num_target_layers=config.num_hidden_layers,
        markov=MarkovSpec("none", 0),
        confidence=ConfidenceSpec(enabled=False, with_markov=False),
        own_embedding="embed_tokens.weight" in entries,
        own_head="lm_head.weight" in entries,
        method="mtp",
        chain=ChainSpec(kind="mtp", state_normed=True, stages=stages),
    )
