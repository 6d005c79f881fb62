"""Gemma 3, its text model."""

from dspark_export.families.gemma3.family import Gemma3Family

__all__ = ["Gemma3Family"]
