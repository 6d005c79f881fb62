"""Under which conditions records were taken: those under others may not be compared with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from dspark_engines.backends import EngineOptions, get_backend
from dspark_engines.machine import processor_name, usable_cores
from dspark_engines.measured import resolve_engines
from dspark_engines.runtime.serving.plan import plan_runtime
from dspark_export.evaluating.layout import Question
from dspark_export.evaluating.layouts import questions_hash
from dspark_export.evaluating.plan import EvalPlan
from dspark_export.evaluating.ways import Way


class Line(BaseModel):
    """One line of the records."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class WayConditions(Line):
    """One way of decoding and what it runs on."""

    name: str
    drafter: str
    bundle: str
    """Identity of the bundle: one sha256 over graphs, weights, tokenizer and engines."""
    plan: str
    """What its runtime does, and why."""
    measured: bool
    """Whether it does so by what steps cost on this machine."""


class Conditions(Line):
    """The first line: all that records of one file have in common, so that they may be compared.

    How many prompts were taken is no part of it: a larger --limit adds to what is there.
    """

    schema_version: Literal[1] = 1
    prompts_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    """Of the whole prompt set."""
    max_new_tokens: PositiveInt
    temperature: NonNegativeFloat
    """Of the sampled mode; 0 where there is none."""
    top_k: NonNegativeInt
    top_p: NonNegativeFloat
    min_p: NonNegativeFloat
    seed: NonNegativeInt
    scheduler: str
    backend: str
    backend_version: str
    cpu: str
    cores: PositiveInt
    threads: NonNegativeInt
    ways: list[WayConditions]

    def differences(self, other: Conditions) -> list[str]:
        """What is not the same, in the words of the options, each with both values."""
        found = []
        for name in type(self).model_fields:
            mine, others = getattr(self, name), getattr(other, name)
            if mine != others and name == "ways":
                found.append(f"ways ({_names(mine)}; there {_names(others)})")
            elif mine != others:
                found.append(f"{name} ({_short(mine)}; there {_short(others)})")
        return found


def _names(ways: Sequence[WayConditions]) -> str:
    return ", ".join(f"{way.name} of {way.bundle[:8]}" for way in ways)


def _short(value: object) -> str:
    return str(value)[:40]


def make_conditions(ways: Sequence[Way], questions: Sequence[Question], plan: EvalPlan) -> Conditions:
    """The conditions of a run over the whole prompt set `questions`."""
    cores, sampling = usable_cores(), plan.sampling
    threads = resolve_engines(ways[0].bundle, plan.backend, EngineOptions(plan.threads)).threads
    return Conditions(
        prompts_sha256=questions_hash(questions),
        max_new_tokens=plan.max_new_tokens,
        temperature=sampling.temperature,
        top_k=sampling.top_k,
        top_p=sampling.top_p,
        min_p=sampling.min_p,
        seed=sampling.seed,
        scheduler=plan.scheduler,
        backend=plan.backend,
        backend_version=get_backend(plan.backend).version,
        cpu=processor_name(),
        cores=cores,
        threads=threads or cores,
        ways=[_conditions(way, plan) for way in ways],
    )


def _conditions(way: Way, plan: EvalPlan) -> WayConditions:
    runtime = plan_runtime(way.bundle, plan.options(way), own_engines=False)
    return WayConditions(
        name=way.name,
        drafter=way.drafter,
        bundle=way.identity,
        plan=runtime.reason,
        measured=runtime.costs is not None,
    )
