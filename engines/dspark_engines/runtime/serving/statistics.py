"""What a run of many requests was, beside what each of them got."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dspark_calibration import accepted_length
from dspark_engines.runtime.result import GenerationResult
from dspark_engines.runtime.serving.runtime import Runtime
from dspark_engines.runtime.serving.timeline import ENGINES


@dataclass(frozen=True)
class RunStatistics:
    """Figures of one runtime; means are over all rounds of `requests` requests.

    `seconds` is the time from the first step of any engine to the last (of those that the timeline remembers);
    `idle_share` is each engine's part of it without work, `overlap_seconds` that in which both worked.
    `draft_failures` are steps of the draft engine that raised, `bad_blocks` blocks with numbers that are not finite.
    """

    requests: int
    tokens: int
    rounds: int
    speculating: bool
    scheduler: str
    reason: str
    """What decides about drafting, and why."""
    mean_verify_length: float
    accepted_length: float
    cohorts: list[int]
    cohorts_reason: str
    seconds: float
    idle_share: dict[str, float]
    overlap_seconds: float
    draft_failures: int
    bad_blocks: int
    last_draft_failure: str

    def trouble(self) -> str:
        """What went wrong with the drafter, in a few words; nothing where nothing did."""
        if not self.last_draft_failure:
            return ""
        counts = f"{self.draft_failures} draft steps failed, {self.bad_blocks} blocks held NaN"
        return f"{counts} (last: {self.last_draft_failure})"

    def report(self) -> dict[str, Any]:
        """The JSON form."""
        return vars(self).copy()


def run_statistics(runtime: Runtime, results: Sequence[GenerationResult]) -> RunStatistics:
    """The statistics of `runtime`, which served `results`."""
    rounds, timeline = [round_ for result in results for round_ in result.rounds], runtime.timeline
    return RunStatistics(
        requests=len(results),
        tokens=sum(len(result.token_ids) for result in results),
        rounds=len(rounds),
        speculating=runtime.speculating,
        scheduler=runtime.plan.scheduler.name,
        reason=runtime.plan.reason,
        mean_verify_length=sum(round_.proposed for round_ in rounds) / len(rounds) if rounds else 0.0,
        accepted_length=accepted_length(rounds),
        cohorts=list(runtime.plan.cohorts.slots),
        cohorts_reason=runtime.plan.cohorts.reason,
        seconds=timeline.seconds(),
        idle_share={engine: timeline.idle_share(engine) for engine in ENGINES},
        overlap_seconds=timeline.overlap_seconds(),
        draft_failures=sum(health.failures for health in runtime.draft_health),
        bad_blocks=sum(health.bad_blocks for health in runtime.draft_health),
        last_draft_failure=next((health.last_failure for health in runtime.draft_health if health.last_failure), ""),
    )
