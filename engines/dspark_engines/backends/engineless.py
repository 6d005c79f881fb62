"""What drafts in a bundle without an engine for it."""

from __future__ import annotations

from dspark_engines.backends.engine import DraftEngine, NoDraftEngine
from dspark_engines.bundle import Bundle


def engineless(bundle: Bundle) -> DraftEngine:
    """The draft engine of a bundle that is seen through no drafter of its own."""
    del bundle
    return NoDraftEngine()
