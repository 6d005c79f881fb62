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
        unknown = {"anchor": spec.anchor != "predicts", "block mask": spec.block_mask != "full"}
        for what, differs in unknown.items():
            if differs:
                raise CheckpointError(
                    f"{path}: a DSpark drafter whose {what} is another than DeepSpec's cannot be exported yet",
                    hint="supported: the anchor's position predicts, and positions see their whole block",
                )

    def build_graph(self, spec: DrafterSpec, weights: Weights, shared: Mapping[str, Any], positions: int) -> Any:
        from dspark_export.graphs import build_drafter_graph

        return build_drafter_graph(spec, weights, shared, positions)

    def build_oracle(self, spec: DrafterSpec, weights: Weights, embedding: Any, head: Any) -> Any:
        from dspark_export.parity import DrafterModule

        return DrafterModule(spec, weights, embedding, head)

    def describe(self, spec: DrafterSpec) -> dict[str, Any]:
        return {
            "markov_kind": spec.markov.kind,
            "markov_rank": spec.markov.rank,
            "confidence_with_markov": spec.confidence.with_markov,
        }
