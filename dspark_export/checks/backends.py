"""Backends of a bundle side by side: the same steps through Polygraphy's runners, errors by output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from dspark_engines.backends import DraftEngine, EngineOptions, Engines, VerifyEngine, get_backend
from dspark_engines.bundle import Bundle
from dspark_engines.errors import BackendError
from dspark_export.checks.accept import compare_accept
from dspark_export.checks.graphs import Feeds, drafter_steps, open_reference, target_steps, worst_steps
from dspark_export.checks.polygraphy_steps import compare_steps
from dspark_export.checks.step_comparison import Graph, engine_computes
from dspark_export.checks.tolerances import Comparison


class BackendReport(NamedTuple):
    """Errors of all backends that ran, the worst step of every output, and why others did not."""

    outputs: dict[str, list[Comparison]]
    skipped: dict[str, str]

    @property
    def passed(self) -> bool:
        """Everything that was compared is within tolerance."""
        return all(output.passed for outputs in self.outputs.values() for output in outputs)


def compare_backends(
    bundle: Bundle, names: Sequence[str], options: EngineOptions, announce: Callable[[str], object]
) -> BackendReport:
    """Hold the engines of the backends called, or of all in the bundle, against the exported graphs.

    A backend that was called must run here; without names, those that cannot are skipped, with the reason.
    Raises `BackendError` when none can run.
    """
    outputs: dict[str, list[Comparison]] = {}
    skipped: dict[str, str] = {}
    for name in names or [info.name for info in bundle.manifest.backends]:
        announce(name)
        try:
            with get_backend(name).open(bundle, options) as engines:
                outputs[name] = compare_one(bundle, name, engines)
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


def compare_one(bundle: Bundle, name: str, engines: Engines, seed: int = 0) -> list[Comparison]:
    """The engines of one backend against the exported graphs, steps with rollback: the worst step of every output."""
    random, manifest = np.random.default_rng(seed), bundle.manifest
    drafting = list(drafter_steps(manifest, random, engines.draft.samples)) if manifest.drafter.drafts else []
    found = _compare(bundle, name, "target", engines.verify, list(target_steps(manifest, random)))
    if not drafting:
        return worst_steps(found)
    found += _compare(bundle, name, "drafter", engines.draft, drafting)
    return worst_steps([*found, *compare_accept(bundle, engines, random)])


def _compare(
    bundle: Bundle, name: str, graph: Graph, engine: VerifyEngine | DraftEngine, feeds: list[Feeds]
) -> list[Comparison]:
    reference, slot = open_reference(bundle, graph), engine.new_slot()
    return compare_steps(
        graph,
        engine_computes(bundle, name),
        (name, lambda step: engine.step([slot], **step)._asdict()),
        ("exported graph", lambda step: reference.step(**step)),
        feeds,
    )
