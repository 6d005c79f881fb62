"""Drafting over a part of the target's vocabulary."""

from dspark_plugins.draft_vocabulary.contract import EXPAND, places

__all__ = ["EXPAND", "places"]
