"""Llama, and what other families take from it."""

from dspark_export.families.llama.family import COMMON_DEFAULTS, LlamaFamily
from dspark_export.families.llama.gguf import LAYER, LLAMA, TOP

__all__ = ["COMMON_DEFAULTS", "LAYER", "LLAMA", "TOP", "LlamaFamily"]
