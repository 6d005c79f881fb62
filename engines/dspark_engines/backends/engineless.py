"""What drafts in a bundle without an engine for it."""

from __future__ import annotations

from dspark_engines.backends.engine import DraftEngine, NoDraftEngine
from dspark_engines.backends.lookup import LookupEngine
from dspark_engines.bundle import NGRAM, Bundle


def engineless(bundle: Bundle) -> DraftEngine:
    """The draft engine of a bundle that is seen through no drafter of its own."""
    manifest = bundle.manifest
    if manifest.drafter.method == NGRAM:
        return LookupEngine(manifest.drafter.block_size, manifest.target.vocab_size, manifest.limits.slots)
    return NoDraftEngine()
