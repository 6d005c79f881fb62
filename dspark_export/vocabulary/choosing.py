"""Count a target's own answers, and say what a smaller vocabulary costs and gains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dspark_calibration import accepted_length
from dspark_engines import Bundle, GenerationRequest, Generator, Runtime, RuntimeOptions
from dspark_engines.backends import EngineOptions, get_backend
from dspark_engines.errors import CheckpointError
from dspark_engines.progress import Step
from dspark_export.vocabulary.counting import held_out_coverage, most_said

LEAST_COVERAGE = 0.95
"""A draft vocabulary that misses more than one token in twenty ends blocks before they begin."""
MEASURED = 8
"""Prompts that drafting is measured on, before and after."""


class VocabularyChoice(NamedTuple):
    """The ids, rising, and the share of answers to prompts that were not counted that they cover."""

    ids: tuple[int, ...]
    coverage: float


class Drafting(NamedTuple):
    """What drafting a whole block is worth and takes: tokens a round, milliseconds of the draft step."""

    accepted_length: float
    draft_ms: float


def choose_vocabulary(
    bundle: Bundle, backend: str, prompts: Sequence[list[int]], size: int, max_new_tokens: int, step: Step
) -> VocabularyChoice:
    """The `size` tokens that the target says most, answering greedily. Raises `CheckpointError` for too few prompts."""
    target = bundle.manifest.target
    answers, options = [], RuntimeOptions(backend, max_queue=len(prompts), speculation="off")
    with Runtime(bundle, options) as runtime:
        streams = [runtime.submit(GenerationRequest(ids, max_new_tokens)) for ids in prompts]
        for done, stream in enumerate(streams, 1):
            answers.append(stream.result().token_ids)
            step(done, len(prompts))
    counted = (answers, list(prompts), size, target.vocab_size)
    covered = held_out_coverage(*counted, always=target.eos_token_ids)
    if covered < LEAST_COVERAGE:
        raise CheckpointError(
            f"--draft-vocabulary {size}: counted on {len(prompts)} prompts it covers {covered:.1%} of what the target "
            f"says to others, less than {LEAST_COVERAGE:.0%}",
            hint="give more --prompts, a larger number, or a file of token ids",
        )
    return VocabularyChoice(tuple(most_said(*counted, always=target.eos_token_ids).tolist()), covered)


def measure_drafting(bundle: Bundle, backend: str, prompts: Sequence[list[int]], max_new_tokens: int) -> Drafting:
    """Greedy, whole blocks, the first of `prompts` one after the other."""
    rounds, seconds = [], 0.0
    with get_backend(backend).open(bundle, EngineOptions()) as engines:
        generator = Generator(engines, bundle.manifest)
        for ids in prompts[:MEASURED]:
            result = generator.run(GenerationRequest(ids, max_new_tokens))
            rounds += result.rounds
            seconds += result.seconds.draft
    return Drafting(accepted_length(rounds), 1e3 * seconds / max(1, len(rounds)))
