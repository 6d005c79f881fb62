"""Eagle3: a chain over tapped features (arXiv 2503.01840)."""

from __future__ import annotations

from pathlib import Path

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import DrafterSpec
from dspark_export.methods.chain import ChainMethod


class Eagle3Method(ChainMethod):
    """Attention reads the embedding and the state."""

    name = "eagle3"
    facts = ("residual_normed", "state_normed", "tap_norm")

    def check(self, path: Path, spec: DrafterSpec) -> None:
        super().check(path, spec)
        assert spec.chain is not None, "dialects of chains set it"
        if spec.chain.stages != 1:
            raise CheckpointError(
                f"{path}: an Eagle3 drafter in {spec.chain.stages} stages is not supported", hint="take one with one"
            )
