"""`dspark::Accept` by its kernels, launched from Python: what tests and benchmarks do where TensorRT would."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspark_plugins.accept import steps
from dspark_plugins.nodes.launching import Allocate, launch


def run_steps(tensors: Mapping[str, Any], allocate: Allocate, sampling: bool) -> tuple[Any, Any]:
    """(accepted [R], next_ids [R]). `tensors` holds the op's inputs by name; a greedy run needs but the first of them:
    logits, draft_ids and verify_lengths.
    """
    attributes = {"vocab": int(tensors["logits"].shape[1]), "block": int(tensors["draft_ids"].shape[1])}
    known = dict(tensors)
    for node in steps.SAMPLING if sampling else steps.GREEDY:
        known |= launch(node, known, attributes, allocate)
    return known["accepted"], known["next_ids" if sampling else "best_ids"]
