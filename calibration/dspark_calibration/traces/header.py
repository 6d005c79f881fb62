"""header.json: whose traces these are and which prompts they will cover (schema version 1)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveInt


class PromptRef(BaseModel):
    """One prompt by name; its text is in the prompt set, whose hash the header has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    source: str


class TraceHeader(BaseModel):
    """Equal headers mean interchangeable traces: a shard's header is that of the whole run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    bundle: str = Field(pattern="^[0-9a-f]{64}$")
    """Identity of the bundle: one hash over its graphs, weights, tokenizer and engines."""
    block_size: PositiveInt
    prompts_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    max_new_tokens: PositiveInt
    temperature: NonNegativeFloat
    seed: NonNegativeInt
    scores: list[str] = []
    """What traces hold of each position in place of a confidence; empty for drafters with a confidence head."""
    prompts: list[PromptRef] = Field(min_length=1)

    def differences(self, other: TraceHeader) -> list[str]:
        """Names of the fields that differ."""
        return [name for name in type(self).model_fields if getattr(self, name) != getattr(other, name)]
