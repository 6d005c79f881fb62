"""Qwen2 and Qwen2.5."""

from dspark_export.families.qwen2.family import Qwen2Family

__all__ = ["Qwen2Family"]
