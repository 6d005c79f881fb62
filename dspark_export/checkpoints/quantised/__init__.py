"""Quantised checkpoints: which there are, and how each is turned back into numbers."""

from dspark_export.checkpoints.quantised.config import read_scheme
from dspark_export.checkpoints.quantised.scheme import Scheme
from dspark_export.checkpoints.quantised.source import QuantisedSource

__all__ = ["QuantisedSource", "Scheme", "read_scheme"]
