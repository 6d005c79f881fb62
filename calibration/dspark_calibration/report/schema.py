"""report.json: one deployment, measured (schema version 1). report.html is made from it alone."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION: Literal[1] = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Measured(_Part):
    """A figure and its 95% interval, by bootstrap over prompts."""

    value: float
    low: float
    high: float


class Deployment(_Part):
    """What was measured, and on what."""

    name: str
    bundle: str
    """Identity: one sha256 over graphs, weights, tokenizer and engines."""
    created: str
    target: str
    target_sha256: str
    drafter: str
    drafter_sha256: str
    precision: str
    backend: str
    context_length: int
    slots: int
    block_size: int
    tools: dict[str, str]
    machine: str | None
    """Where the cost table was measured."""
    recipe: str | None = None
    """What it was built by; None where options alone said so, and for bundles of older versions."""
    recipe_sha256: str | None = None


class Traces(_Part):
    """What calibration saw."""

    prompts: int
    fit_prompts: int
    validation_prompts: int
    rounds: int
    fit_rounds: int
    validation_rounds: int
    cut_rounds: int
    """Left out: the end of the text or a length limit made their block shorter."""
    empty_rounds: int = 0
    """Left out: the drafter had nothing to propose."""
    scores: list[str] = []
    """What confidences are estimated from, where the drafter has no confidence head."""
    sources: list[str]
    prompts_sha256: str
    max_new_tokens: int
    temperature: float
    seed: int


class Scores(_Part):
    """Means over positions of the scores of prefix survival; AUROC over positions that have both outcomes."""

    ece: float
    ece_equal_mass: float
    auroc: float | None
    brier: float
    log_loss: float


class Ece(_Part):
    """Expected calibration error of prefix survival, mean over positions, on the validation half."""

    bins: int
    before: float
    after: float
    per_position_scaling: float
    temperature_scaling: float
    """Sequential temperature scaling without offsets; `after` is the same when none were needed."""
    before_interval: tuple[float, float]
    after_interval: tuple[float, float]
    noise_floor: float
    """What confidences that are right would show by chance with so many rounds."""


class Bar(_Part):
    """One bin of a reliability diagram, and how many rounds are in it."""

    size: int
    confidence: float
    outcome: float


class PositionScore(_Part):
    """One position's scores under one calibration; `own_` are those of the position's own confidence."""

    ece: float
    ece_equal_mass: float
    auroc: float | None
    brier: float
    log_loss: float
    own_ece: float
    own_auroc: float | None


class Position(_Part):
    """One position of the block, on the validation half."""

    position: int
    """From 1."""
    temperature: float
    offset: float
    """Confidence is σ(c / temperature + offset)."""
    sts_temperature: Measured
    per_position_temperature: float
    reached: int
    accepted: int
    acceptance: float | None
    """Share accepted among rounds that got there; None when none did."""
    before: PositionScore
    per_position_scaling: PositionScore
    temperature_scaling: PositionScore
    after: PositionScore
    diagram_before: list[Bar]
    diagram_after: list[Bar]


class Source(_Part):
    """One source of prompts, on the validation half; scores are means over positions."""

    source: str
    prompts: int
    rounds: int
    accepted_length: Measured
    before: Scores
    per_position_scaling: Scores
    temperature_scaling: Scores
    after: Scores


class Replayed(_Part):
    """One way of scheduling at one load, tokens per second."""

    scheduler: str
    confidences: str
    """raw, sts or oracle."""
    realised: float
    expected: float
    verify_length: float
    budget: float
    accepted_length: float
    wasted: float


class Load(_Part):
    """All ways of scheduling at one number of requests at once."""

    requests: int
    plain: float
    """Tokens per second without speculation."""
    replays: list[Replayed]

    @property
    def best(self) -> Replayed:
        """The fastest of what can be deployed: not the oracle, and raw confidences only where they are not read."""
        usable = [r for r in self.replays if r.confidences == "sts" or r.scheduler == "fixed"]
        return max(usable, key=lambda replayed: replayed.realised)

    @property
    def gain(self) -> float:
        """Throughput of the best over plain decoding."""
        return self.best.realised / self.plain


class SweepPoint(_Part):
    """One threshold on prefix survival."""

    threshold: float
    confidences: str
    verify_length: float
    accepted_length: float
    accepted_share: float
    """Share of verified draft tokens that were accepted; 1 when none was verified."""
    realised: float | None
    """Tokens per second at one request; None without a cost table."""


class Cost(_Part):
    """One kind of step, milliseconds."""

    requests: int
    tokens: int
    verify: float
    low: float
    high: float
    draft: float


class Report(_Part):
    """Everything that the page shows."""

    schema_version: Literal[1] = SCHEMA_VERSION
    verdict: str
    deployment: Deployment
    traces: Traces
    ece: Ece
    before: Scores
    per_position_scaling: Scores
    temperature_scaling: Scores
    after: Scores
    offsets: bool
    """Whether temperatures alone were not enough, so that every position got an offset as well."""
    positions: list[Position]
    sources: list[Source]
    context: int | None
    """Context length, in tokens, that costs and loads are for."""
    costs: list[Cost]
    loads: list[Load]
    sweep: list[SweepPoint]
    caveats: list[str]
