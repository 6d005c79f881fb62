"""Prompt lookup: drafting without a model, from what the text itself has said before."""

from dspark_engines.backends.lookup.engine import LookupEngine
from dspark_engines.backends.lookup.index import LookupSpec, TextIndex
from dspark_engines.backends.lookup.one_hot import OneHotLogits

__all__ = ["LookupEngine", "LookupSpec", "OneHotLogits", "TextIndex"]
