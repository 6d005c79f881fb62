"""Gemma 4, its text models."""

from dspark_export.families.gemma4.family import Gemma4Family, Gemma4UnifiedFamily

__all__ = ["Gemma4Family", "Gemma4UnifiedFamily"]
