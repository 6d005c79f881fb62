"""eval.json: drafters against plain decoding (schema version 1). eval.html is made from it alone."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from dspark_calibration.report import Measured
from dspark_export.evaluating.records import Parting
from dspark_export.evaluating.ways import Mode, Role

SCHEMA_VERSION: Literal[1] = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Ratio(_Part):
    """Tokens/s over those of plain decoding, prompt by prompt: quartiles, and the geometric mean with its interval."""

    prompts: int
    """Those with a second token both ways."""
    median: float
    low_quartile: float
    high_quartile: float
    mean: Measured


class Position(_Part):
    """One position of the block, from 1: of the rounds that verified it with all before it accepted, its share."""

    position: int
    reached: int
    accepted: int
    acceptance: float | None
    """None: no round got there."""


class Figures(_Part):
    """One way on the prompts of one source, or on all ("all")."""

    source: str
    prompts: int
    tokens: int
    cut: int
    """Outputs that were cut at the length limit."""
    rounds: int
    accepted_length: Measured | None
    """Tokens a round, the target's own included; None without rounds."""
    positions: list[Position]
    tokens_per_second: float | None
    """Median over prompts, from the first token on."""
    ratio: Ratio | None
    first_token_seconds: float
    """Median over prompts: the prompt is read and its first token is there."""
    verified: int
    """Draft tokens that were verified."""
    rejected: int
    wasted: float | None
    """Draft tokens verified and rejected for every token that rounds produced."""


class Different(Parting):
    """A prompt whose greedy output is not that of plain decoding."""

    prompt: str


class Identity(_Part):
    """Greedy output against plain decoding's."""

    prompts: int
    identical: int
    ties: int
    differences: list[Different]
    """Ties among them."""

    @property
    def passed(self) -> bool:
        """No difference that is not a tie."""
        return self.identical + self.ties == self.prompts


class Accuracy(_Part):
    """Answers that were right, by exact match."""

    correct: int
    prompts: int


class WayFigures(_Part):
    """Everything about one way in one mode."""

    way: str
    overall: Figures
    sources: list[Figures]
    identity: Identity | None
    """None for what is sampled, and for plain decoding itself."""
    accuracy: Accuracy | None


class Pair(_Part):
    """Two drafters on the same prompts: `first` less `second` in accepted length, `first` over `second` in tokens/s."""

    first: str
    second: str
    prompts: int
    accepted_length: Measured | None
    speed: Measured | None
    """Geometric mean of the ratios of tokens/s."""
    accepted_shown: bool
    speed_shown: bool
    """Whether the prompts tell the two apart."""
    findings: list[str]


class ModeFigures(_Part):
    """Greedy or sampled."""

    mode: Mode
    verdict: str
    prompts: int
    ways: list[WayFigures]
    pairs: list[Pair]
    findings: list[str]
    """What is shown against plain decoding, and what is not."""

    def way(self, name: str) -> WayFigures:
        """The way called `name`."""
        return next(way for way in self.ways if way.way == name)


class WayInfo(_Part):
    """What a way is."""

    name: str
    role: Role
    bundle: str
    identity: str
    """One sha256 over the bundle's graphs, weights, tokenizer and engines."""
    drafter: str
    checkpoint: str
    method: str
    block_size: int
    plan: str
    """What its runtime does, and why."""


class Setting(_Part):
    """On what, and how."""

    target: str
    target_sha256: str
    precision: str
    backend: str
    machine: str
    prompts_sha256: str
    prompts: int
    sources: dict[str, int]
    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    seed: int
    scheduler: str


class Evaluation(_Part):
    """Everything that the page shows."""

    schema_version: Literal[1] = SCHEMA_VERSION
    verdict: str
    passed: bool
    """Whether greedy output is that of plain decoding, but for ties."""
    setting: Setting
    ways: list[WayInfo]
    modes: list[ModeFigures]
    caveats: list[str]
