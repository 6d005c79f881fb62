"""Steps of two forms of an engine in Polygraphy's terms: a runner each, one comparison of all outputs a step."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from polygraphy.backend.base import BaseRunner
from polygraphy.common import TensorMetadata
from polygraphy.comparator import Comparator, IterationResult, SimpleCompareFunc
from polygraphy.logger import G_LOGGER

from dspark_export.checks.graph_parity import Feeds
from dspark_export.checks.half_precision import compare_lines, largest_turn
from dspark_export.checks.tolerances import HALF_SHARES, TIE_GAP, TOLERANCES, Tolerance

Arrays = Mapping[str, npt.NDArray[Any]]
Form = tuple[str, Callable[[Feeds], Arrays]]
"""A name, and what runs one step."""
ITERATION = Mapping[str, Any]
"""Polygraphy's result of one step, by output: true when it passed, `max_absdiff` and `mean_absdiff` the errors."""
LEAST = {"confidence_logits": 1.0}
"""Short lines of logits that may all be near 0, which is a confidence of one half."""
OUTPUTS = {"target": ("logits", "features"), "drafter": ("draft_ids", "draft_logits", "confidence_logits")}


def compare_steps(graph: str, dtype: str, ours: Form, theirs: Form, feeds: Sequence[Feeds]) -> list[ITERATION]:
    """Run all steps on one form, then on the other, and compare them under the table's row for `dtype`."""
    names = OUTPUTS[graph]
    runners = [_StepRunner(name, step, names, feeds[0]) for name, step in (ours, theirs)]
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL):
        runs = Comparator.run(runners, data_loader=[OrderedDict(step) for step in feeds])
        accuracy = Comparator.compare_accuracy(runs, compare_func=_comparison(graph, names, dtype))
    (iterations,) = accuracy[0].values()
    return list(iterations)


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
        results = self._step(feed_dict)
        self.inference_time = time.perf_counter() - started  # the comparator adds it up
        wanted = {name: np.array(results[name]) for name in self._outputs}  # engines own what they return
        if not np.prod(wanted.get("draft_logits", np.ones(1)).shape):
            del wanted["draft_logits"]  # where an engine keeps them to itself
        if "temperature" in feed_dict:
            wanted["temperature"] = feed_dict["temperature"]
        return OrderedDict(wanted)


def _comparison(graph: str, names: Sequence[str], dtype: str) -> Callable[[Any, Any], ITERATION]:
    tables = {name: TOLERANCES.get((f"{graph}.{name}", dtype), Tolerance(0.0, 0.0)) for name in names}
    elementwise = SimpleCompareFunc(
        check_error_stat="elemwise",
        atol={name: table.absolute for name, table in tables.items()} | {"": 0.0},
        rtol={name: table.relative for name, table in tables.items()} | {"": 0.0},
        infinities_compare_equal=True,
    )

    def compare(ours: IterationResult, theirs: IterationResult) -> ITERATION:
        if graph == "drafter":
            ours, theirs = _settle(ours, theirs, dtype)
        results = {name: result for name, result in elementwise(ours, theirs).items() if name in names}
        if dtype in HALF_SHARES:
            for name in results.keys() - {"draft_ids"}:
                results[name] = compare_lines(ours[name], theirs[name], dtype, LEAST.get(name, 0.0))
        return results

    return compare


def _settle(ours: Any, theirs: Any, dtype: str) -> tuple[Any, Any]:
    """Cut a drafted block behind the first token that differs, since what follows had another past.

    That token itself is excused where it was a tie, or, in half precision, where it was drawn at random or where the
    two best logits are closer than rounding may bring them.
    """
    a, b = ({name: result[name] for name in result} for result in (ours, theirs))
    different = np.flatnonzero((a["draft_ids"] != b["draft_ids"]).any(axis=0))
    if different.size:
        at = int(different[0])
        line = b["draft_logits"][0, at]
        second, best = np.sort(line)[-2:]
        allowed = largest_turn(line, dtype) if dtype in HALF_SHARES else TIE_GAP
        drawn = dtype != "float32" and bool((b["temperature"] > 0).all())
        for result in (a, b):
            for name in result.keys() & set(OUTPUTS["drafter"]):
                result[name] = result[name][:, : at + 1]
        if drawn or best - second <= allowed:
            a["draft_ids"] = b["draft_ids"]
    return tuple(IterationResult(outputs=OrderedDict(result)) for result in (a, b))
