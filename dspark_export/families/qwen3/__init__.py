"""Qwen3."""

from dspark_export.families.qwen3.family import Qwen3Family

__all__ = ["Qwen3Family"]
