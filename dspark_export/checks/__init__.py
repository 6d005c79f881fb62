"""Proof that a bundle does what it should: parity of graphs, identity of output."""

from dspark_export.checks.graphs import compare_engines, worst_steps
from dspark_export.checks.identity import Difference, IdentityReport, check_identity
from dspark_export.checks.tolerances import TIE_GAP, TOLERANCES, Comparison, Tolerance, compare

__all__ = [
    "TIE_GAP",
    "TOLERANCES",
    "Comparison",
    "Difference",
    "IdentityReport",
    "Tolerance",
    "check_identity",
    "compare",
    "compare_engines",
    "worst_steps",
]
