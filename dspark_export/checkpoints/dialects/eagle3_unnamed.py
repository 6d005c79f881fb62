"""Eagle3 drafters in the plain layout whose config calls itself a Llama: of one layer, and of fewer tokens."""

from __future__ import annotations

from pathlib import Path

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.checkpoint import DrafterCheckpoint
from dspark_export.checkpoints.config_file import read_json
from dspark_export.checkpoints.dialects.drafter_directory import peek_config
from dspark_export.checkpoints.dialects.eagle3 import Eagle3Dialect
from dspark_export.checkpoints.spec import TargetSpec

ARCHITECTURE = "LlamaForCausalLM"
DRAFTED, TRUNCATED = "draft_vocab_size", "truncated_vocab_size"


class UnnamedEagle3Dialect(Eagle3Dialect):
    """A directory whose config.json names Llama's class, one layer and how many tokens are drafted."""

    name = "Llama-labelled"

    def matches(self, path: Path) -> bool:
        config = peek_config(path)
        one = config.get("architectures") == [ARCHITECTURE] and config.get("num_hidden_layers") == 1
        return one and "speculators_model_type" not in config and (DRAFTED in config or TRUNCATED in config)

    def read(self, path: Path, target: TargetSpec) -> DrafterCheckpoint:
        data = read_json(path / "config.json")
        if data.get(TRUNCATED, data.get(DRAFTED)) != data.get(DRAFTED):
            said = f"{TRUNCATED} is {data[TRUNCATED]!r:.20}, and {DRAFTED} {data.get(DRAFTED)!r:.20}"
            raise CheckpointError(
                f"{path / 'config.json'}: {said}",
                hint=f"both say how many tokens are drafted: set {DRAFTED} to the rows of lm_head.weight",
            )
        return super().read(path, target)
