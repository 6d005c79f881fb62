"""The few measurements that say whether drafting pays, in seconds: what `build` takes for every bundle."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from dspark_calibration import Round, accepted_per_position
from dspark_engines.backends import EngineOptions, Engines, get_backend
from dspark_engines.bundle import Bundle
from dspark_engines.measured import CostTable, MeasuredDrafting, take_fingerprint
from dspark_engines.profiling.measure import ProfilePlan, measure
from dspark_engines.progress import Reporter
from dspark_engines.runtime import GenerationRequest, Generator

CONTEXTS = (64, 256)
SECONDS = 0.6
"""For each number of requests and context."""
TOKENS, FEWEST = 32, 8
"""That each prompt gets, at most and at least."""
DRAFTING_SECONDS = 5.0
SLOW = 0.05
"""Seconds of a step from which on one short context has to do."""


def measure_quickly(bundle: Bundle, backend: str, prompts: Sequence[Sequence[int]], reporter: Reporter) -> CostTable:
    """Costs of one, two and as many requests as there are slots, and what drafts of whole blocks came to.

    Measured with the threads that a runtime takes where nothing else was measured. At most about 20 seconds: slow
    models get fewer contexts and shorter answers. Raises what opening the engines raises.
    """
    options, slots = EngineOptions(), bundle.manifest.limits.slots
    longest = bundle.manifest.limits.context_length - bundle.manifest.drafter.block_size - 1
    step = reporter.step("measuring whether drafting pays")
    with get_backend(backend).open(bundle, options) as engines:
        seconds = _step_seconds(bundle, engines)
        contexts = CONTEXTS[:1] if seconds > SLOW else CONTEXTS
        plan = ProfilePlan(
            rows=sorted({1, min(2, slots), slots}),
            contexts=sorted({min(context, longest) for context in contexts}),
            samples=3,
            seconds=SECONDS,
        )
        table = measure(bundle, engines, plan, take_fingerprint(bundle, backend, options), step)
        tokens = int(DRAFTING_SECONDS / (seconds * max(1, len(prompts))))
        drafting = measure_drafting(bundle, engines, prompts, min(TOKENS, max(FEWEST, tokens)))
    return table.model_copy(update={"drafting": drafting})


def measure_drafting(
    bundle: Bundle, engines: Engines, prompts: Sequence[Sequence[int]], tokens: int
) -> MeasuredDrafting:
    """Greedy answers to each prompt, whole blocks verified."""
    generator, block = Generator(engines, bundle.manifest), bundle.manifest.drafter.block_size
    rounds: list[Round] = []
    means = []
    for ids in prompts:
        answer = generator.run(GenerationRequest(ids, tokens)).rounds
        rounds += answer
        means += [sum(round_.accepted for round_ in answer) / len(answer)] if answer else []
    survival = accepted_per_position(rounds, block)
    return MeasuredDrafting(survival=survival, spread=float(np.std(means)) if means else 0.0, rounds=len(rounds))


def _step_seconds(bundle: Bundle, engines: Engines) -> float:
    """Wall time of one token, after a first one that loads what is loaded lazily."""
    slot, one = engines.verify.new_slot(), np.ones(1, np.int64)
    for used in (0, 1):
        started = time.perf_counter()
        engines.verify.step([slot], one % bundle.manifest.target.vocab_size, one, used * one, 0 * one)
    return time.perf_counter() - started
