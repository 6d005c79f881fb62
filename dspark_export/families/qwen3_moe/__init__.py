"""Qwen3 with a mixture of experts."""

from dspark_export.families.qwen3_moe.family import Qwen3MoeFamily

__all__ = ["Qwen3MoeFamily"]
