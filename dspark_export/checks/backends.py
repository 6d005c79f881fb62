"""Backends of a bundle side by side: the same inputs through Polygraphy's comparator, errors by output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from dspark_engines.backends import EngineOptions, Engines, get_backend
from dspark_engines.bundle import Bundle
from dspark_engines.errors import BackendError
from dspark_export.checks.accept import compare_accept
from dspark_export.checks.graph_parity import Feeds, drafter_steps, target_steps
from dspark_export.checks.polygraphy_steps import ITERATION, compare_steps
from dspark_export.reference_graph import ReferenceGraph

DTYPES = {None: "float32", "fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


class OutputDifference(NamedTuple):
    """The worst of all steps: one output of one backend against the exported graph, under the tolerance table."""

    backend: str
    output: str
    max_error: float
    mean_error: float
    passed: bool


class BackendReport(NamedTuple):
    """Errors of all backends that ran, and why others did not."""

    outputs: list[OutputDifference]
    skipped: dict[str, str]

    @property
    def passed(self) -> bool:
        """Everything that was compared is within tolerance."""
        return all(output.passed for output in self.outputs)


def compare_backends(
    bundle: Bundle, names: Sequence[str], options: EngineOptions, announce: Callable[[str], object]
) -> BackendReport:
    """Hold the engines of the backends called, or of all in the bundle, against the exported graphs.

    A backend that was called must run here; without names, those that cannot are skipped, with the reason.
    Raises `BackendError` when none can run.
    """
    outputs: list[OutputDifference] = []
    skipped: dict[str, str] = {}
    for name in names or [info.name for info in bundle.manifest.backends]:
        announce(name)
        try:
            with get_backend(name).open(bundle, options) as engines:
                outputs += compare_one(bundle, name, engines)
        except BackendError as error:
            if names:
                raise
            skipped[name] = str(error)
    if not outputs:
        reasons = "; ".join(skipped.values()) or "it holds no engines"
        raise BackendError(
            f"{bundle.path}: no backend can be compared here ({reasons})",
            hint=f"compile one that this machine runs: dspark-export compile {bundle.path} --backend onnxruntime",
        )
    return BackendReport(outputs, skipped)


def compare_one(bundle: Bundle, name: str, engines: Engines, seed: int = 0) -> list[OutputDifference]:
    """The engines of one backend against the exported graphs, steps with rollback."""
    random = np.random.default_rng(seed)
    drafting = list(drafter_steps(bundle.manifest, random, engines.draft.samples))
    return [
        *_compare(bundle, name, "target", engines.verify, list(target_steps(bundle.manifest, random))),
        *_compare(bundle, name, "drafter", engines.draft, drafting),
        *(
            OutputDifference(name, accepted.what, accepted.max_error, accepted.max_error, accepted.passed)
            for accepted in compare_accept(bundle, engines, random)
        ),
    ]


def _compare(bundle: Bundle, name: str, graph: str, engine: Any, feeds: list[Feeds]) -> Iterator[OutputDifference]:
    capacity = bundle.manifest.limits.context_length + bundle.manifest.drafter.block_size
    reference, slot = ReferenceGraph(bundle.file(f"onnx/{graph}.onnx"), 1, capacity), engine.new_slot()
    results = compare_steps(
        graph,
        DTYPES[_precision(bundle, name)],
        (name, lambda step: engine.step([slot], **step)._asdict()),
        ("exported graph", lambda step: reference.step(**step)),
        feeds,
    )
    return _worst(name, graph, results)


def _worst(name: str, graph: str, results: Iterable[ITERATION]) -> Iterator[OutputDifference]:
    """The worst step of every output."""
    steps = list(results)
    for output in dict.fromkeys(output for step in steps for output in step):
        errors = [step[output] for step in steps if output in step]
        yield OutputDifference(
            name,
            f"{graph}.{output}",
            max(error.max_absdiff for error in errors),
            max(error.mean_absdiff for error in errors),
            all(bool(error) for error in errors),
        )


def _precision(bundle: Bundle, name: str) -> str | None:
    """What a backend's engines compute in; None for what is as exported."""
    info = next((info for info in bundle.manifest.backends if info.name == name), None)
    return info.engines[0].precision if info else None
