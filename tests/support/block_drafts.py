"""One block drafted by our torch oracle and by our exported graph, to be held against another project's module."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from dspark_export.checkpoints import DrafterCheckpoint
from dspark_export.graphs import build_drafter_graph, save_graph
from dspark_export.reference_graph import ReferenceGraph

Array = np.ndarray
Draft = dict[str, Array]
"""Of a block of g drafts: "ids" int64 [g]; "logits" float32 [g, V], -inf for what cannot be drafted; "confidence"
float32 [g], +inf without the head; and "hidden" float32 [g, H], the states behind the last norm, which graphs keep to
themselves."""
CAPACITY, LIMIT = 64, 2e-5
WIDEST = 16
"""Positions that a block may have behind the capacity's last one."""


def our_drafts(
    drafter: DrafterCheckpoint, taps: Array, anchor: int, folder: Path, tables: Mapping[str, Array] | None = None
) -> dict[str, Draft]:
    """What the anchor behind `taps` [p, L*H] leads to, by "torch" and by "graph".

    The graph reads the context in two steps. `tables`: the target's embed_tokens.weight and lm_head.weight, for
    drafters that have none.
    """
    given = dict(tables or {})
    save_graph(_graph(drafter, given), folder / "drafter.onnx")
    return {
        "torch": _by_torch(drafter, taps, anchor, given),
        "graph": _by_graph(folder / "drafter.onnx", taps, anchor, drafter.spec.draft_length),
    }


def _graph(drafter: DrafterCheckpoint, tables: Mapping[str, Array]) -> ir.Model:
    own = {"embed_tokens.weight": drafter.spec.own_embedding, "lm_head.weight": drafter.spec.own_head}
    shared = {name: ir.tensor(table, name=name) for name, table in tables.items() if not own[name]}
    return build_drafter_graph(drafter.spec, drafter.weights, shared, CAPACITY + WIDEST)


def _by_torch(drafter: DrafterCheckpoint, taps: Array, anchor: int, tables: Mapping[str, Array]) -> Draft:
    import torch

    from dspark_export import parity

    embedding, head = (tables.get(name, np.empty(0)) for name in ("embed_tokens.weight", "lm_head.weight"))
    module = parity.DrafterModule(drafter.spec, drafter.weights, embedding, head)
    with torch.inference_mode():
        base, hidden = module(torch.from_numpy(taps), anchor)
        ids, confidence, logits = parity.draft_greedy(module, base, hidden, anchor)
    tensors = {"ids": ids, "logits": logits, "confidence": confidence, "hidden": hidden}
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _by_graph(path: Path, taps: Array, anchor: int, length: int) -> Draft:
    graph, used = ReferenceGraph(path, 1, CAPACITY + WIDEST), 0
    out: dict[str, Any] = {"temperature": np.zeros(1, np.float32), "uniforms": np.zeros((1, length), np.float32)}
    noise = dict(out)
    for part in np.array_split(taps, 2):
        counts = {"feature_lengths": [len(part)], "used": [used], "anchor_ids": [anchor]}
        out = graph.step(features=part, **{key: np.array(value) for key, value in counts.items()}, **noise)
        used += len(part)
    names = {"ids": "draft_ids", "logits": "draft_logits", "confidence": "confidence_logits"}
    return {name: out[output][0] for name, output in names.items()}


def largest_error(ours: Draft, theirs: Draft) -> float:
    """The largest difference in what `ours` has, over the largest finite value of its kind or 1. Ids have to be equal,
    and so have values that are not finite."""
    assert ours["ids"].tolist() == theirs["ids"].tolist()
    return float(np.max([_error(ours[name], theirs[name]) for name in ours if name != "ids"]))


def _error(mine: Array, wanted: Array) -> float:
    assert mine.shape == wanted.shape
    differences = np.subtract(mine, wanted, where=mine != wanted, out=np.zeros_like(mine))
    scale = max(1.0, float(np.abs(wanted).max(where=np.isfinite(wanted), initial=0.0)))
    return float(np.abs(differences).max()) / scale


def compare(case: str, drafts: Mapping[str, Draft], theirs: Draft) -> None:
    """Print the errors of both, and fail where one is above `LIMIT`, which NaN and infinities are."""
    for name, ours in drafts.items():
        error = largest_error(ours, theirs)
        print(f"{case}, {name}: {error:.1e}")
        assert error <= LIMIT
