"""What was exported, handed to the backends that compile it: nothing of it is read off graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dspark_engines.bundle import (
    Bundle,
    CacheSpec,
    GraphInfo,
    GraphName,
    Limits,
    Manifest,
    Precision,
    Role,
    widest_block,
)
from dspark_engines.errors import BackendError

ROLE_GRAPHS: dict[Role, GraphName] = {"verify": "target", "draft": "drafter", "accept": "accept"}
"""The graph that each role's engine is compiled from."""
NEXT_IDS, SCORES = "next_ids", "draft_scores"
"""An input, and an output, that not all draft graphs have."""


@dataclass(frozen=True, kw_only=True)
class ExportedGraphs:
    """Graphs under `root`, with what their caches are, for engines of `limits`.

    `block_size`: draft tokens a round, `block_width` the positions that the drafter runs over for them, both 0 without
    a drafter; `precision`: of the linear layers, as they were exported.
    """

    root: Path
    graphs: Mapping[GraphName, GraphInfo]
    limits: Limits
    block_size: int
    block_width: int
    precision: Precision

    @classmethod
    def of_bundle(cls, bundle: Bundle) -> ExportedGraphs:
        """Those of a bundle, whatever version wrote it."""
        manifest = bundle.manifest
        return cls(
            root=bundle.path,
            graphs=manifest.graphs,
            limits=manifest.limits,
            block_size=manifest.drafter.block_size,
            block_width=widest_block(bundle.stored),
            precision=manifest.precision,
        )


def needed_roles(roles: Sequence[Role], block_size: int) -> Sequence[Role]:
    """Of a backend's `roles` those that a bundle has graphs for: all of them, or "verify" alone without a drafter."""
    return roles if block_size else [role for role in roles if role == "verify"]


def role_caches(bundle: Bundle, role: Role) -> list[CacheSpec]:
    """The caches of a role's engine, by the names that they have in its graph."""
    info = bundle.manifest.graphs.get(ROLE_GRAPHS[role])
    return [] if info is None else info.caches


def reads_text(bundle: Bundle) -> bool:
    """Whether its drafter's graph reads the tokens behind its features too."""
    return _reads_text(bundle.manifest.graphs.get("drafter"))


def chain_methods(manifest: Manifest) -> list[str]:
    """Methods of a bundle's drafters whose graphs read text: they draft one token after the other."""
    graphs = [(manifest.drafter, manifest.graphs)]
    graphs += [(section.drafter, section.graphs) for section in manifest.further_drafters]
    return [info.method for info, its in graphs if _reads_text(its.get("drafter"))]


def _reads_text(graph: GraphInfo | None) -> bool:
    return graph is not None and graph.takes(NEXT_IDS)


def has_scores(bundle: Bundle) -> bool:
    """Whether its drafter's graph puts out scores; those of older versions do not."""
    info = bundle.manifest.graphs.get("drafter")
    return info is not None and info.gives(SCORES)


def require_file(exported: ExportedGraphs, role: Role) -> Path:
    """The graph of a role's engine. Raises `BackendError` where there is none, as for `accept` in old bundles."""
    info = exported.graphs.get(ROLE_GRAPHS[role])
    file = None if info is None else exported.root / info.path
    if file is None or not file.is_file():
        missing = file.name if file else f"{ROLE_GRAPHS[role]}.onnx"
        raise BackendError(
            f"{exported.root}: no onnx/{missing}, it was exported by an older version",
            hint="build the bundle again with this version: dspark-export build",
        )
    return file
