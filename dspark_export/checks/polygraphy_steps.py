"""Steps of two forms of an engine in Polygraphy's terms: a runner each, our comparison of all outputs a step."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from polygraphy.backend.base import BaseRunner
from polygraphy.common import TensorMetadata
from polygraphy.comparator import Comparator
from polygraphy.logger import G_LOGGER

from dspark_export.checks.graphs import Feeds, is_sampled
from dspark_export.checks.step_comparison import OUTPUTS, SCORE_OUTPUTS, Arrays, Computes, Graph, compare_step
from dspark_export.checks.tolerances import Comparison

Form = tuple[str, Callable[[Feeds], Arrays]]
"""A name, and what runs one step."""
SAMPLED = "sampled"
"""Passed on beside the outputs, for the comparison: whether the step drew its tokens."""


def compare_steps(
    graph: Graph, computes: Computes, ours: Form, theirs: Form, feeds: Sequence[Feeds]
) -> list[Comparison]:
    """Run all steps on one form, then on the other, and compare them; one comparison an output a step."""
    runners = [_StepRunner(name, step, OUTPUTS[graph], feeds[0]) for name, step in (ours, theirs)]
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL):
        runs = Comparator.run(runners, data_loader=[OrderedDict(step) for step in feeds])
        accuracy = Comparator.compare_accuracy(runs, compare_func=partial(_compare, graph, computes))
    (iterations,) = accuracy[0].values()
    return [comparison for iteration in iterations for comparison in iteration.values()]


def _compare(graph: Graph, computes: Computes, ours: Arrays, theirs: Arrays) -> dict[str, Comparison]:
    found = compare_step(graph, computes, ours, theirs, sampled=bool(ours[SAMPLED]))
    return {comparison.what: comparison for comparison in found}


class _StepRunner(BaseRunner):  # type: ignore[misc]  # the library ships no types
    def __init__(self, name: str, step: Callable[[Feeds], Arrays], outputs: Sequence[str], example: Feeds) -> None:
        super().__init__(name=name)
        self._step, self._outputs, self._example = step, outputs, example

    def get_input_metadata_impl(self) -> TensorMetadata:
        metadata = TensorMetadata()
        for name, array in self._example.items():
            metadata.add(name, array.dtype, [-1] * array.ndim)
        return metadata

    def infer_impl(self, feed_dict: Feeds) -> Arrays:
        started = time.perf_counter()
        results: Any = self._step(feed_dict)
        self.inference_time = time.perf_counter() - started  # the comparator adds it up
        names = (*self._outputs, *(name for name in SCORE_OUTPUTS if results.get(name) is not None))
        wanted = {name: np.array(results[name]) for name in names}  # engines own what they return
        return OrderedDict(wanted | {SAMPLED: np.array(is_sampled(feed_dict))})
