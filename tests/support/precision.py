"""Bundles of the tiny pair to be compared, and how far their outputs are apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dspark_engines import Bundle, open_bundle
from dspark_engines.backends import EngineOptions, get_backend
from dspark_engines.bundle import Limits
from dspark_export.bundling import BuildPlan, Silent, build_bundle
from dspark_export.checks.precision.divergence import Divergence, measure_divergence

LIMITS, ONE = Limits(context_length=96, prefill_chunk=16, slots=1), EngineOptions(threads=1)
TEXTS = [np.random.default_rng(n).integers(4, 100, n).tolist() for n in (1, 7, 8, 40)]
Pair = tuple[Path, Path]


def build(pair: Pair, output: Path, **plan: Any) -> Bundle:
    """A bundle of `pair`, opened."""
    build_bundle(BuildPlan(*pair, output, "onnxruntime", LIMITS, **plan), Silent())
    return open_bundle(output)


def diverge(reference: Bundle, other: Bundle, texts: list[list[int]], chunk: int = 7) -> Divergence:
    """Of `other` from `reference` on these texts."""
    backend = get_backend("onnxruntime")
    with backend.open(reference, ONE) as a, backend.open(other, ONE) as b:
        return measure_divergence(a.verify, b.verify, texts, chunk, lambda done, total: None)
