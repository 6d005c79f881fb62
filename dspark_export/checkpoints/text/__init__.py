"""A target's text: tokenizer, chat template, stops."""

from dspark_export.checkpoints.text.gguf import read_gguf_text
from dspark_export.checkpoints.text.hf import read_hf_text
from dspark_export.checkpoints.text.spec import TargetText

__all__ = ["TargetText", "read_gguf_text", "read_hf_text"]
