"""DSpark: a parallel backbone over tapped features, a Markov head, a confidence head (paper, section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import DrafterSpec, Weights
from dspark_export.checkpoints.seams import DraftMethod


class DsparkMethod(DraftMethod):
    """With rank 0 and no confidence head it is DFlash, anchor first."""

    name = "dspark"

    def check(self, path: Path, spec: DrafterSpec) -> None:
        if spec.draft_length < 1:
            raise CheckpointError(
                f"{path}: a block of {spec.block_size} whose anchor predicts nothing drafts nothing",
                hint="it takes a block of 2 or more, or an anchor that predicts",
            )
        if spec.anchor == "given" and spec.markov.kind == "rnn":
            raise CheckpointError(
                f"{path}: a Markov head of kind rnn behind an anchor that predicts nothing is not supported",
                hint="its state was trained from the anchor's position on; supported there: vanilla, gated, none",
            )

    def build_graph(self, spec: DrafterSpec, weights: Weights, shared: Mapping[str, Any], positions: int) -> Any:
        from dspark_export.graphs import build_drafter_graph

        return build_drafter_graph(spec, weights, shared, positions)

    def build_oracle(self, spec: DrafterSpec, weights: Weights, embedding: Any, head: Any) -> Any:
        from dspark_export.parity import DrafterModule

        return DrafterModule(spec, weights, embedding, head)

    def name_of(self, spec: DrafterSpec) -> str:
        return "dflash" if spec.markov.kind == "none" else self.name

    def scores(self, spec: DrafterSpec) -> tuple[str, ...]:
        from dspark_export.graphs.draft_outputs import SCORE_NAMES

        return () if spec.confidence.enabled else SCORE_NAMES

    def describe(self, spec: DrafterSpec) -> dict[str, Any]:
        return {
            "markov_kind": spec.markov.kind,
            "markov_rank": spec.markov.rank,
            "confidence_with_markov": spec.confidence.with_markov,
        }
