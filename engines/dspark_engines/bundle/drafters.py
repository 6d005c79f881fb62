"""A bundle's drafters: the one that it is known by, further ones over the same target, and ways that need no engine."""

from __future__ import annotations

from collections.abc import Sequence

from dspark_engines.bundle.manifest import (
    NO_DRAFTER,
    BackendInfo,
    DrafterInfo,
    DrafterSection,
    GraphInfo,
    GraphName,
    Manifest,
)

NONE, NGRAM = "none", "ngram"
ENGINELESS = (NGRAM, NONE)
"""Names that every bundle has: prompt lookup, and plain decoding."""
NGRAM_BLOCK = 5
"""Tokens that prompt lookup drafts where the bundle's own drafter does not say how many."""
NGRAM_SCORES = ("matched", "agreed")


def all_drafters(manifest: Manifest) -> list[DrafterInfo]:
    """A bundle's drafters, the one that it is known by first."""
    return [manifest.drafter, *(section.drafter for section in manifest.further_drafters)]


def drafter_names(manifest: Manifest) -> tuple[str, ...]:
    """What they are called."""
    return tuple(info.called for info in all_drafters(manifest) if info.drafts)


def joined_taps(taps: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """What a target gives as features for drafters with these `taps`: of one as they are, of several all, rising."""
    return tuple(taps[0]) if len(taps) == 1 else tuple(sorted({tap for each in taps for tap in each}))


def widest_block(manifest: Manifest) -> int:
    """Positions that the widest backbone of any drafter runs over: what caches have room for behind a context."""
    return max(info.block_width for info in all_drafters(manifest))


def seen_through(manifest: Manifest, name: str) -> Manifest:
    """The same bundle as if the drafter called `name` were its only one. Raises `KeyError` where there is none."""
    if name == NONE:
        return _with(manifest, DrafterSection(drafter=NO_DRAFTER, graphs={}, engines={}))
    if name == NGRAM:
        return _with(manifest, DrafterSection(drafter=_prompt_lookup(manifest), graphs={}, engines={}))
    if name == manifest.drafter.called and manifest.drafter.drafts:
        return manifest.model_copy(update={"further_drafters": []})
    return _with(manifest, {section.drafter.called: section for section in manifest.further_drafters}[name])


def _prompt_lookup(manifest: Manifest) -> DrafterInfo:
    known = manifest.drafter
    return NO_DRAFTER.model_copy(
        update={
            "name": NGRAM,
            "method": NGRAM,
            "block_size": known.block_size or NGRAM_BLOCK,
            "feature_size": known.feature_size,
            "scores": list(NGRAM_SCORES),
        }
    )


def _with(manifest: Manifest, section: DrafterSection) -> Manifest:
    graphs: dict[GraphName, GraphInfo] = {"target": manifest.graphs["target"], **section.graphs}
    backends = [_engines(info, section) for info in manifest.backends]
    update = {"drafter": section.drafter, "graphs": graphs, "backends": backends, "further_drafters": []}
    return manifest.model_copy(update=update)


def _engines(info: BackendInfo, section: DrafterSection) -> BackendInfo:
    verify = [engine for engine in info.engines if engine.role == "verify"]
    return info.model_copy(update={"engines": [*verify, *section.engines.get(info.name, [])]})
