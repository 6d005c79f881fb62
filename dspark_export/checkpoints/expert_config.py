"""Keys of a config, or of a GGUF file, whose layers may have experts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import AliasChoices, Field, PositiveInt

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints.config_file import DecoderConfig
from dspark_export.checkpoints.spec import ExpertSpec

if TYPE_CHECKING:
    from dspark_export.checkpoints.gguf_file import GgufFile


class ExpertConfig(DecoderConfig):
    """How many experts a layer has, and how many of them a token takes."""

    num_experts: PositiveInt = Field(validation_alias=AliasChoices("num_experts", "num_local_experts"))
    num_experts_per_tok: PositiveInt

    def expert_spec(self, path: Path, **facts: Any) -> ExpertSpec:
        """With `facts` that the family knows. Raises `CheckpointError` where a token takes more than there are."""
        if self.num_experts_per_tok > self.num_experts:
            raise CheckpointError(
                f"{path}: num_experts_per_tok is {self.num_experts_per_tok}, and there are {self.num_experts} experts",
                hint="correct the config, or fetch it again",
            )
        return ExpertSpec(count=self.num_experts, per_token=self.num_experts_per_tok, **facts)


def gguf_expert_spec(file: GgufFile, name: str, **facts: Any) -> ExpertSpec:
    """The keys `NAME.expert_…` of a GGUF file, with `facts` that the family knows. Raises `CheckpointError`."""
    count, used = file.count(f"{name}.expert_count"), file.count(f"{name}.expert_used_count")
    if used > count:
        raise CheckpointError(
            f"{file.path}: {name}.expert_used_count is {used}, and there are {count} experts",
            hint="convert the model to GGUF again with a current converter",
        )
    return ExpertSpec(count=count, per_token=used, **facts)
