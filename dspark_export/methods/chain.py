"""What drafters that draft one token after the other have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import DrafterSpec, Weights
from dspark_export.checkpoints.seams import DraftMethod

MOST_DRAFTS = 16
"""Every token is a step of its own in the graph."""


class ChainMethod(DraftMethod):
    """`DrafterSpec.chain` says how a step goes; there is neither a Markov head nor a confidence head."""

    facts: tuple[str, ...]
    """Of `ChainSpec` what the manifest says of such a drafter."""

    def check(self, path: Path, spec: DrafterSpec) -> None:
        assert spec.chain is not None, "dialects of chains set it"
        if not 1 <= spec.draft_length <= MOST_DRAFTS:
            raise CheckpointError(
                f"{path}: a chain of {spec.draft_length} drafts", hint=f"draft 1 to {MOST_DRAFTS} tokens a round"
            )
        if spec.markov.rank or spec.confidence.enabled:
            raise CheckpointError(
                f"{path}: a Markov head or a confidence head behind steps of a chain is not supported",
                hint="take a drafter without these",
            )

    def build_graph(self, spec: DrafterSpec, weights: Weights, shared: Mapping[str, Any], positions: int) -> Any:
        from dspark_export.graphs import build_chain_graph

        return build_chain_graph(spec, weights, shared, positions)

    def build_oracle(self, spec: DrafterSpec, weights: Weights, embedding: Any, head: Any) -> Any:
        from dspark_export.parity import ChainModule

        return ChainModule(spec, weights, embedding, head)

    def describe(self, spec: DrafterSpec) -> dict[str, Any]:
        return {name: getattr(spec.chain, name) for name in self.facts}

    def scores(self, spec: DrafterSpec) -> tuple[str, ...]:
        from dspark_export.graphs.draft_outputs import SCORE_NAMES

        return SCORE_NAMES
