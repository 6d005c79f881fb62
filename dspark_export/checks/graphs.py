"""Do the compiled engines compute what the exported graphs say, over steps with rollback?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from dspark_engines.backends import DraftEngine, Engines, VerifyEngine
from dspark_engines.backends.exported import NEXT_IDS
from dspark_engines.bundle import Bundle, Manifest
from dspark_export.checks.accept import compare_accept
from dspark_export.checks.step_comparison import Computes, Graph, compare_step, engine_computes
from dspark_export.checks.tolerances import Comparison
from dspark_export.reference_graph import ReferenceGraph

PROMPT = 33
Feeds = dict[str, npt.NDArray[Any]]


def steps_within(context_length: int) -> tuple[tuple[int, int], ...]:
    """(tokens, cache used before): a prompt, a block, a rollback of five tokens, one token alone."""
    prompt = min(PROMPT, context_length - 12)
    return (prompt, 0), (8, prompt), (8, prompt + 3), (1, prompt + 11)


def compare_engines(
    bundle: Bundle,
    engines: Engines,
    seed: int = 0,
    *,
    backend: str = "",
    draft_failed: Callable[[Exception], None] | None = None,
) -> list[Comparison]:
    """Run the engines and the exported graphs on the same random tokens; one comparison an output a step.

    The bundle says what engines of `backend` compute in, and so how near they must be. What the draft engine raises
    goes to `draft_failed` if there is one, and its outputs are not compared then.
    """
    random, computes = np.random.default_rng(seed), engine_computes(bundle, backend)
    results = list(_compare(bundle, "target", computes, engines.verify, target_steps(bundle.manifest, random)))
    if "drafter" not in bundle.manifest.graphs:
        return results
    try:
        steps = drafter_steps(bundle.manifest, random, engines.draft.samples)
        results += _compare(bundle, "drafter", computes, engines.draft, steps)
    except Exception as error:  # whatever a backend raises
        if draft_failed is None:
            raise
        draft_failed(error)
    return results + list(compare_accept(bundle, engines, random))


def worst_steps(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """The worst step of every output."""
    worst: dict[str, Comparison] = {}
    for comparison in comparisons:
        known = worst.get(comparison.what)
        if known is None or comparison.worst > known.worst:
            worst[comparison.what] = comparison
    return list(worst.values())


def open_reference(bundle: Bundle, graph: Graph) -> ReferenceGraph:
    """An exported graph for one row of the bundle's context length."""
    capacity = bundle.manifest.limits.context_length + bundle.manifest.drafter.block_width
    return ReferenceGraph(bundle.file(bundle.manifest.graphs[graph].path), 1, capacity)


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
    """Inputs of the draft engine, one row, step by step; greedy and sampling take turns if it `samples`.

    What drafts for `manifest` gets the tokens behind its features where its graph reads them.
    """
    text = manifest.graphs["drafter"].takes(NEXT_IDS)
    for round_number, (count, used) in enumerate(steps_within(manifest.limits.context_length)):
        tokens = random.integers(0, manifest.target.vocab_size, count) if text else None
        yield ({} if tokens is None else {NEXT_IDS: tokens}) | {
            "features": random.standard_normal((count, manifest.drafter.feature_size), np.float32),
            "feature_lengths": np.array([count]),
            "used": np.array([used]),
            "anchor_ids": random.integers(0, manifest.target.vocab_size, 1) if tokens is None else tokens[-1:],
            "temperature": np.full(1, round_number % 2 if samples else 0, np.float32),
            "uniforms": random.random((1, manifest.drafter.block_size), np.float32),
        }


def is_sampled(feeds: Feeds) -> bool:
    """Whether the rows of a draft step draw their tokens."""
    return "temperature" in feeds and bool((feeds["temperature"] > 0).all())


def _compare(
    bundle: Bundle, graph: Graph, computes: Computes, engine: VerifyEngine | DraftEngine, steps: Iterable[Feeds]
) -> Iterator[Comparison]:
    reference, slot = open_reference(bundle, graph), engine.new_slot()
    for feeds in steps:
        expected, actual = reference.step(**feeds), engine.step([slot], **feeds)._asdict()
        yield from compare_step(graph, computes, actual, expected, sampled=is_sampled(feeds))
