"""The seam between drafters and how they draft: a method's graph, its oracle, and its part of the manifest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from dspark_export.checkpoints.spec import DrafterSpec
from dspark_export.checkpoints.tensors import Weights

METHODS = {
    "dspark": "dspark_export.methods.dspark:DsparkMethod",
    "eagle3": "dspark_export.methods.eagle3:Eagle3Method",
    "mtp": "dspark_export.methods.mtp:MtpMethod",
}


class DraftMethod(ABC):
    """One way to draft a block. Its graph has the contract of the draft engine, whatever is inside."""

    name: str
    """`DrafterSpec.method`, which the dialect sets, and `method` in the manifest."""

    def check(self, path: Path, spec: DrafterSpec) -> None:
        """Raises `CheckpointError` for a drafter, read from `path`, that this method cannot follow."""
        del path, spec

    @abstractmethod
    def build_graph(self, spec: DrafterSpec, weights: Weights, shared: Mapping[str, Any], positions: int) -> Any:
        """The draft graph, an `onnx_ir.Model`: see `dspark_export.graphs.build_drafter_graph` for its contract."""

    @abstractmethod
    def build_oracle(self, spec: DrafterSpec, weights: Weights, embedding: Any, head: Any) -> Any:
        """The same drafter in torch: see `dspark_export.parity.DrafterModule` for its contract, and `ChainModule` for
        that of a chain."""

    def name_of(self, spec: DrafterSpec) -> str:
        """What a drafter is called among others of a bundle where nobody names it."""
        del spec
        return self.name

    def scores(self, spec: DrafterSpec) -> tuple[str, ...]:
        """What the graph's output `draft_scores` [R, g, S] says of each position; nothing where there is none."""
        del spec
        return ()

    def describe(self, spec: DrafterSpec) -> dict[str, Any]:
        """Facts for the manifest's section of this method: JSON values, for people and other tools."""
        del spec
        return {}


def register_method(name: str, place: str) -> None:
    """Let exports know a method: `place` is "module:Class"."""
    METHODS[name] = place


def method_names() -> tuple[str, ...]:
    """Names that `get_method` knows."""
    return tuple(METHODS)


def get_method(name: str) -> DraftMethod:
    """The method called `name`, which a dialect has set."""
    module, _, attribute = METHODS[name].partition(":")
    method: DraftMethod = getattr(import_module(module), attribute)()
    return method
