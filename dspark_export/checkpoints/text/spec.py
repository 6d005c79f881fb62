"""What a target's text is, after its dialect has been read away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dspark_engines.bundle import StopToken


@dataclass(frozen=True, kw_only=True)
class TargetText:
    """How a target's text is written: everything that a bundle's tokenizer/ and manifest need of it."""

    tokenizer_json: str
    """The effective tokenizer: encoding with it gives what the reference (transformers, llama.cpp) gives."""
    special_tokens: Mapping[str, str]
    """The tokens that have names (`bos_token`, `eos_token`, …), by their spelling; only those that are set."""
    chat_template: str | None
    stop_tokens: tuple[StopToken, ...]
    """What ends a sequence; the token that the checkpoint itself calls its end comes first."""
    add_bos: bool = False
    add_eos: bool = False
    split_special_tokens: bool = False
    clean_up_spaces: bool = False
