"""Exported graphs against the torch modules of the checkpoints that they were made from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dspark_engines.arrays import Floats
from dspark_engines.backends.exported import NEXT_IDS
from dspark_engines.bundle import Bundle, Manifest, all_drafters, joined_taps
from dspark_export.checkpoints import DrafterCheckpoint, TargetCheckpoint
from dspark_export.checkpoints.seams import get_family, get_method
from dspark_export.checks import Comparison, compare
from dspark_export.parity.blocks import GreedyDrafts
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
        features = module.features(states, bundle_taps(bundle.stored))[0].numpy()
        del module
        results = list(_target(bundle, tokens, logits[0].numpy(), features))
        own = own_columns(bundle, drafter.spec.target_layer_ids)
        return results + list(_drafter(bundle, target, drafter, tokens, features, own))


def bundle_taps(manifest: Manifest) -> tuple[int, ...]:
    """What its target's graph gives as features."""
    return joined_taps([info.target_layer_ids for info in all_drafters(manifest)])


def own_columns(bundle: Bundle, taps: Sequence[int]) -> npt.NDArray[np.int64]:
    """Where these taps lie among the features that a bundle's target gives."""
    given, width = bundle_taps(bundle.stored), bundle.manifest.target.hidden_size
    starts = [given.index(tap) * width for tap in taps]
    return np.concatenate([np.arange(start, start + width) for start in starts])


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
    own: npt.NDArray[np.int64],
) -> Iterator[Comparison]:
    """`own`: of `features` the columns that this drafter taps."""
    embedding = target.weights["embed_tokens.weight"]
    head = embedding if target.spec.tied_embeddings else target.weights["lm_head.weight"]
    module = get_method(drafter.spec.method).build_oracle(drafter.spec, drafter.weights, embedding, head)
    block, width = drafter.spec.draft_length, drafter.spec.block_size
    graph, used = ReferenceGraph(bundle.file(bundle.manifest.graphs["drafter"].path), 1, len(tokens) + width), 0
    oracle = GreedyDrafts(module)
    for part in _steps(features):
        next_ids = np.roll(tokens, -1)[used : used + len(part)]
        out = graph.step(
            features=part,
            feature_lengths=np.array([len(part)]),
            used=np.array([used]),
            anchor_ids=next_ids[-1:],
            temperature=np.zeros(1, np.float32),
            uniforms=np.zeros((1, block), np.float32),
            **({NEXT_IDS: next_ids} if oracle.reads_text else {}),
        )
        used += len(part)
        ids, confidence, logits = (
            x.numpy() for x in oracle.block(torch.from_numpy(part[:, own]), torch.from_numpy(next_ids))
        )
        wrong = int((out["draft_ids"][0] != ids).sum())
        yield Comparison("drafter.draft_ids", wrong, wrong, float("inf") if wrong else 0.0)
        yield compare("drafter.draft_logits", out["draft_logits"][0], logits)
        yield compare("drafter.confidence_logits", out["confidence_logits"][0], confidence)


def _steps(packed: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    return np.split(packed, [int(share * len(packed)) for share in CHUNKS])
