"""Do the compiled engines compute what the exported graphs say, over steps with rollback?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from dspark_engines.arrays import Ints
from dspark_engines.backends import Engines
from dspark_engines.bundle import Bundle, Manifest
from dspark_export.checks.accept import compare_accept
from dspark_export.checks.tolerances import TIE_GAP, Comparison, compare, compare_rounded
from dspark_export.reference_graph import ReferenceGraph

PROMPT = 33
Feeds = dict[str, npt.NDArray[Any]]


def steps_within(context_length: int) -> tuple[tuple[int, int], ...]:
    """(tokens, cache used before): a prompt, a block, a rollback of five tokens, one token alone."""
    prompt = min(PROMPT, context_length - 12)
    return (prompt, 0), (8, prompt), (8, prompt + 3), (1, prompt + 11)


def compare_engines(
    bundle: Bundle, engines: Engines, seed: int = 0, *, draft_failed: Callable[[Exception], None] | None = None
) -> list[Comparison]:
    """Run the engines and the exported graphs on the same random tokens; one comparison an output a step.

    What the draft engine raises goes to `draft_failed` if there is one, and its outputs are not compared then.
    """
    random = np.random.default_rng(seed)
    capacity = bundle.manifest.limits.context_length + bundle.manifest.drafter.block_size
    results = list(_target(bundle, engines, random, capacity))
    try:
        results += _drafter(bundle, engines, random, capacity)
    except Exception as error:  # whatever a backend raises
        if draft_failed is None:
            raise
        draft_failed(error)
    return results + list(compare_accept(bundle, engines, random))


def target_steps(manifest: Manifest, random: np.random.Generator) -> Iterator[Feeds]:
    """Inputs of the verify engine, one row, step by step."""
    for count, used in steps_within(manifest.limits.context_length):
        yield {
            "token_ids": random.integers(0, manifest.target.vocab_size, count),
            "row_lengths": np.array([count]),
            "used": np.array([used]),
            "logit_rows": np.arange(count),
        }


def drafter_steps(manifest: Manifest, random: np.random.Generator, samples: bool = True) -> Iterator[Feeds]:
    """Inputs of the draft engine, one row, step by step; greedy and sampling take turns if it `samples`."""
    for round_number, (count, used) in enumerate(steps_within(manifest.limits.context_length)):
        yield {
            "features": random.standard_normal((count, manifest.drafter.feature_size), np.float32),
            "feature_lengths": np.array([count]),
            "used": np.array([used]),
            "anchor_ids": random.integers(0, manifest.target.vocab_size, 1),
            "temperature": np.full(1, round_number % 2 if samples else 0, np.float32),
            "uniforms": random.random((1, manifest.drafter.block_size), np.float32),
        }


def _target(bundle: Bundle, engines: Engines, random: np.random.Generator, capacity: int) -> Iterator[Comparison]:
    reference = ReferenceGraph(bundle.file("onnx/target.onnx"), 1, capacity)
    slot = engines.verify.new_slot()
    for feeds in target_steps(bundle.manifest, random):
        expected, actual = reference.step(**feeds), engines.verify.step([slot], **feeds)
        held = _comparison(bundle)
        yield held("target.logits", actual.logits, expected["logits"])
        yield held("target.features", actual.features, expected["features"])


def _drafter(bundle: Bundle, engines: Engines, random: np.random.Generator, capacity: int) -> Iterator[Comparison]:
    reference = ReferenceGraph(bundle.file("onnx/drafter.onnx"), 1, capacity)
    slot, samples = engines.draft.new_slot(), engines.draft.samples
    for feeds in drafter_steps(bundle.manifest, random, samples):
        expected, actual = reference.step(**feeds), engines.draft.step([slot], **feeds)
        gap = float("inf") if bundle.manifest.precision == "int8" else TIE_GAP
        same = _agreeing(actual.draft_ids[0], expected["draft_ids"][0], expected["draft_logits"][0], gap)
        wrong = 0 if same else int((actual.draft_ids != expected["draft_ids"]).sum())
        yield Comparison("drafter.draft_ids", wrong, wrong, float("inf") if wrong else 0.0)
        floats = {"confidence_logits": actual.confidence_logits}
        draft_logits = np.asarray(actual.draft_logits)
        floats |= {"draft_logits": draft_logits} if draft_logits.size else {}
        for name, value in floats.items():
            yield _comparison(bundle)(f"drafter.{name}", value[:, :same], expected[name][:, :same])


def _comparison(bundle: Bundle) -> Callable[..., Comparison]:
    return compare_rounded if bundle.manifest.precision == "int8" else compare


def _agreeing(actual: Ints, expected: Ints, logits: npt.NDArray[Any], gap: float) -> int:
    """Positions to compare: all; up to and including a tie that fell the other way; none if no tie explains it.

    A tie is a distance of up to `gap` between the two best logits.
    """
    different = np.flatnonzero(actual != expected)
    if not different.size:
        return len(expected)
    second, best = np.sort(logits[different[0]])[-2:]
    return int(different[0]) + 1 if best - second <= gap else 0
