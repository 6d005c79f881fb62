"""Llama, and what other families take from it."""

from dspark_export.families.llama.family import COMMON_DEFAULTS, LlamaFamily
from dspark_export.families.llama.gguf import LLAMA, TOP

__all__ = ["COMMON_DEFAULTS", "LLAMA", "TOP", "LlamaFamily"]
