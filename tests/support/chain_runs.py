"""What our oracle and our graph of a chain draft behind features that come in two parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dspark_export.checkpoints import DrafterCheckpoint, DrafterSpec
from dspark_export.graphs import build_chain_graph, save_graph
from dspark_export.reference_graph import ReferenceGraph
from tests.support import tiny

CONTEXT, CUT = 23, 14
Drafts = tuple[np.ndarray, np.ndarray]
"""ids [g], logits [g, V]."""


def random_input(spec: DrafterSpec, seed: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """features [m, L*H] and the token behind each [m]."""
    random = np.random.default_rng(seed)
    features = random.standard_normal((CONTEXT, spec.feature_size), np.float32)
    return features, random.integers(0, tiny.VOCAB, CONTEXT)


def drafts(
    drafter: DrafterCheckpoint, features: np.ndarray, ids: np.ndarray, tables: dict[str, np.ndarray], folder: Path
) -> dict[str, Drafts]:
    """By "oracle" and "graph"; `tables` are the target's embedding and head by canonical name."""
    return {
        "oracle": _of_oracle(drafter, features, ids, tables),
        "graph": _of_graph(drafter, features, ids, tables, folder),
    }


def _of_oracle(drafter: DrafterCheckpoint, features: np.ndarray, ids: np.ndarray, tables: dict[str, Any]) -> Drafts:
    import torch

    from dspark_export.parity import ChainModule

    none = np.empty(0)
    embedding, head = (tables.get(name, none) for name in ("embed_tokens.weight", "lm_head.weight"))
    module = ChainModule(drafter.spec, drafter.weights, embedding, head)
    cache = module.new_cache()
    with torch.no_grad():
        for part in (slice(0, CUT), slice(CUT, None)):
            found = module.draft(cache, torch.from_numpy(features[part]), torch.from_numpy(ids[part]))
    return found.ids.numpy(), found.logits.numpy()


def _of_graph(
    drafter: DrafterCheckpoint, features: np.ndarray, ids: np.ndarray, tables: dict[str, Any], folder: Path
) -> Drafts:
    import onnx_ir as ir

    spec = drafter.spec
    shared = {name: ir.tensor(array, name=name) for name, array in tables.items() if name not in drafter.weights}
    cut = spec.draft_vocabulary
    if cut and "lm_head.weight" in shared:
        shared["lm_head.weight"] = ir.tensor(tables["lm_head.weight"][list(cut)], name="lm_head.weight")
    save_graph(build_chain_graph(spec, drafter.weights, shared, 64), folder / "drafter.onnx")
    graph, used = ReferenceGraph(folder / "drafter.onnx", 1, 64), 0
    noise = {"temperature": np.zeros(1, np.float32), "uniforms": np.zeros((1, spec.draft_length), np.float32)}
    out: dict[str, np.ndarray] = {}
    for part in (slice(0, CUT), slice(CUT, None)):
        behind = ids[part]
        counts = {"feature_lengths": [len(behind)], "used": [used], "anchor_ids": [behind[-1]], "next_ids": behind}
        out = graph.step(features=features[part], **{key: np.array(value) for key, value in counts.items()}, **noise)
        used += len(behind)
    return out["draft_ids"][0], out["draft_logits"][0]


def assert_alike(name: str, ours: Drafts, theirs: Drafts, limit: float = 2e-5) -> None:
    """The same tokens, and logits within `limit` of the largest; what cannot be drafted is left out."""
    assert ours[0].tolist() == theirs[0].tolist()
    finite = np.isfinite(theirs[1])
    largest = float(np.abs(ours[1][finite] - theirs[1][finite]).max())
    print(f"{name}: {largest:.1e}")
    assert largest <= limit * max(1.0, float(np.abs(theirs[1][finite]).max()))
    assert np.all(ours[1][~finite] < theirs[1][finite].min())
