"""One step of an engine against the exported graph: every output, under a tolerance for what the engine computes in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dspark_engines.backends.exported import SCORES
from dspark_engines.bundle import Bundle
from dspark_export.checks.tolerances import HALF_SHARES, TIE_GAP, Comparison, compare, compare_rounded

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]
Graph = Literal["target", "drafter"]
Computes = Literal["float32", "int8", "float16", "bfloat16"]
"""What linear layers and attention are computed in."""
DTYPES: dict[str | None, Computes] = {None: "float32", "fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
OUTPUTS: dict[Graph, tuple[str, ...]] = {
    "target": ("logits", "features"),
    "drafter": ("draft_ids", "draft_logits", "confidence_logits"),
}
ENGINE_SCORES = "scores"
SCORE_OUTPUTS = (ENGINE_SCORES, SCORES)
"""What engines and graphs call what not all of them give."""
LEAST = {"drafter.confidence_logits": 1.0, "drafter.draft_scores": 1.0}
"""Short lines that may all be near 0: logits that are a confidence of one half, and log-probabilities."""


def engine_computes(bundle: Bundle, backend: str) -> Computes:
    """What the engines of a backend compute in; as exported where the bundle does not say otherwise."""
    if bundle.manifest.precision == "int8":
        return "int8"
    info = next((info for info in bundle.manifest.backends if info.name == backend), None)
    return DTYPES[info.engines[0].precision if info else None]


def compare_step(
    graph: Graph, computes: Computes, outputs: Mapping[str, Any], expected: Arrays, *, sampled: bool
) -> list[Comparison]:
    """A comparison for every output that the engine gives, of one row.

    A drafted block is compared up to and including the first token that differs, since what follows had another past.
    That token is excused where it was a tie, or where rounding may have turned it over; in less than float32 also
    where it was `sampled`.
    """
    actual = {name: np.asarray(outputs[name]) for name in OUTPUTS[graph]}  # held logits are fetched
    floats = [name for name in OUTPUTS[graph] if name != "draft_ids" and actual[name].size]
    if graph == "target":
        return [_compare(f"target.{name}", computes, actual[name], expected[name]) for name in floats]
    different = np.flatnonzero((actual["draft_ids"] != expected["draft_ids"]).any(axis=0))
    wrong, stop = len(different), actual["draft_ids"].shape[1]
    if wrong:
        stop = int(different[0]) + 1
        wrong = 0 if _excused(computes, expected["draft_logits"][0, stop - 1], sampled) else wrong
    ids = Comparison("drafter.draft_ids", wrong, wrong, float("inf") if wrong else 0.0)
    pairs = [(name, actual[name][:, :stop], expected[name][:, :stop]) for name in floats]
    if ENGINE_SCORES in outputs and outputs[ENGINE_SCORES] is not None:
        pairs.append((SCORES, outputs[ENGINE_SCORES][:, :stop], expected[SCORES][:, :stop]))
    return [ids, *(_compare(f"drafter.{name}", computes, ours, theirs) for name, ours, theirs in pairs)]


def compare_lines(what: str, actual: Array, expected: Array, dtype: str) -> Comparison:
    """Compare outputs [..., W] in half precision: each line's root mean square of errors, as a share of the line's own.

    See `HALF_SHARES`; NaN never passes.
    """
    same = actual == expected  # equal infinities are equal
    error = np.where(same, 0.0, np.abs(actual.astype(np.float64) - np.where(same, 0.0, expected)))
    allowed = HALF_SHARES[dtype] * np.maximum(_size(expected), LEAST.get(what, 0.0))
    shares = _size(error) / np.maximum(allowed, np.finfo(np.float64).tiny)
    worst = float(shares.max(initial=0.0)) if np.isfinite(shares).all() else float("inf")
    return Comparison(what, float(error.max(initial=0.0)), float(_size(error.ravel())) if error.size else 0.0, worst)


def _compare(what: str, computes: Computes, actual: Array, expected: Array) -> Comparison:
    if computes == "int8":
        return compare_rounded(what, actual, expected)
    return (
        compare_lines(what, actual, expected, computes) if computes in HALF_SHARES else compare(what, actual, expected)
    )


def _excused(computes: Computes, line: Array, sampled: bool) -> bool:
    """Whether another token than the graph's may have come from these logits [V]."""
    if computes != "float32" and (sampled or computes == "int8"):
        return True
    second, best = np.sort(line)[-2:]
    allowed = 2 * HALF_SHARES[computes] * float(_size(line)) if computes in HALF_SHARES else TIE_GAP
    return bool(best - second <= allowed)


def _size(lines: Array) -> Array:
    """Root mean square of what is finite of every line; NaN where something is NaN."""
    values = np.where(np.isinf(lines), 0.0, lines.astype(np.float64))
    count = np.maximum((~np.isinf(lines)).sum(-1), 1)
    return np.asarray(np.sqrt((values**2).sum(-1) / count))
