"""Proof that a bundle does what it should: parity of graphs, identity of output."""

from dspark_export.verification.graph_parity import compare_engines
from dspark_export.verification.identity import Difference, IdentityReport, check_identity
from dspark_export.verification.prompts import (
    BUILT_IN,
    Prompt,
    built_in_prompts,
    encode_prompts,
    read_prompt_set,
    read_prompts,
)
from dspark_export.verification.tolerances import TIE_GAP, TOLERANCES, Comparison, Tolerance, compare

__all__ = [
    "BUILT_IN",
    "TIE_GAP",
    "TOLERANCES",
    "Comparison",
    "Difference",
    "IdentityReport",
    "Prompt",
    "Tolerance",
    "built_in_prompts",
    "check_identity",
    "compare",
    "compare_engines",
    "encode_prompts",
    "read_prompt_set",
    "read_prompts",
]
