"""Mistral."""

from dspark_export.families.mistral.family import MistralFamily

__all__ = ["MistralFamily"]
