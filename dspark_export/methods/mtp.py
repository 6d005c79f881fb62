"""Heads that predict the token after next, run as a chain (DeepSeek-V3, arXiv 2412.19437, section 2.2)."""

from __future__ import annotations

from pathlib import Path

from dspark_engines.errors import CheckpointError
from dspark_export.checkpoints import DrafterSpec
from dspark_export.methods.chain import ChainMethod


class MtpMethod(ChainMethod):
    """An ordinary layer behind a projection of embedding and state; there may be several stages of these."""

    name = "mtp"
    facts = ("stages", "state_normed", "embedding_first")

    def check(self, path: Path, spec: DrafterSpec) -> None:
        super().check(path, spec)
        assert spec.chain is not None, "dialects of chains set it"
        if spec.target_layer_ids != (spec.num_target_layers,):
            raise CheckpointError(
                f"{path}: taps {list(spec.target_layer_ids)}, and an MTP head reads the target's state behind its "
                "final norm",
                hint="this drafter was trained for something else",
            )
        if spec.shape.num_layers != spec.chain.stages:
            raise CheckpointError(
                f"{path}: {spec.shape.num_layers} layers in {spec.chain.stages} stages", hint="a stage has one layer"
            )
