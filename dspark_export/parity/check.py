"""Exported graphs against the torch modules of the checkpoints that they were made from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dspark_engines.arrays import Floats
from dspark_engines.bundle import Bundle
from dspark_export.checkpoints import DrafterCheckpoint, TargetCheckpoint
from dspark_export.checkpoints.seams import get_family, get_method
from dspark_export.checks import Comparison, compare
from dspark_export.parity.heads import draft_greedy
from dspark_export.reference_graph import ReferenceGraph

TOKENS, CHUNKS = 48, (0.4, 0.85)  # a sequence, and where its steps are cut


def compare_with_torch(
    bundle: Bundle, target: TargetCheckpoint, drafter: DrafterCheckpoint, seed: int = 0
) -> list[Comparison]:
    """Run random tokens through both forms of target and drafter; one comparison an output a step."""
    count = min(TOKENS, bundle.manifest.limits.context_length)
    tokens = np.random.default_rng(seed).integers(0, target.spec.vocab_size, count)
    with torch.inference_mode():
        module = get_family(target.spec.architecture).build_oracle(target.spec, target.weights)
        logits, states = module(torch.from_numpy(tokens)[None])
        features = module.features(states, drafter.spec.target_layer_ids)[0].numpy()
        del module
        results = list(_target(bundle, tokens, logits[0].numpy(), features))
        return results + list(_drafter(bundle, target, drafter, tokens, features))


def _target(bundle: Bundle, tokens: npt.NDArray[np.int64], logits: Floats, features: Floats) -> Iterator[Comparison]:
    graph, used = ReferenceGraph(bundle.file(bundle.manifest.graphs["target"].path), 1, len(tokens)), 0
    for part in _steps(tokens):
        rows = slice(used, used + len(part))
        lengths, before = np.array([len(part)]), np.array([used])
        out = graph.step(token_ids=part, row_lengths=lengths, used=before, logit_rows=np.arange(len(part)))
        yield compare("target.logits", out["logits"], logits[rows])
        yield compare("target.features", out["features"], features[rows])
        used += len(part)


def _drafter(
    bundle: Bundle,
    target: TargetCheckpoint,
    drafter: DrafterCheckpoint,
    tokens: npt.NDArray[np.int64],
    features: Floats,
) -> Iterator[Comparison]:
    embedding = target.weights["embed_tokens.weight"]
    head = embedding if target.spec.tied_embeddings else target.weights["lm_head.weight"]
    module = get_method(drafter.spec.method).build_oracle(drafter.spec, drafter.weights, embedding, head)
    block, width = drafter.spec.draft_length, drafter.spec.block_size
    graph, used = ReferenceGraph(bundle.file(bundle.manifest.graphs["drafter"].path), 1, len(tokens) + width), 0
    for part in _steps(features):
        out = graph.step(
            features=part,
            feature_lengths=np.array([len(part)]),
            used=np.array([used]),
            anchor_ids=tokens[:1],
            temperature=np.zeros(1, np.float32),
            uniforms=np.zeros((1, block), np.float32),
        )
        used += len(part)
        base, hidden = module(torch.from_numpy(features[:used]), int(tokens[0]))
        ids, confidence, logits = (x.numpy() for x in draft_greedy(module, base, hidden, int(tokens[0])))
        wrong = int((out["draft_ids"][0] != ids).sum())
        yield Comparison("drafter.draft_ids", wrong, wrong, float("inf") if wrong else 0.0)
        yield compare("drafter.draft_logits", out["draft_logits"][0], logits)
        yield compare("drafter.confidence_logits", out["confidence_logits"][0], confidence)


def _steps(packed: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    return np.split(packed, [int(share * len(packed)) for share in CHUNKS])
